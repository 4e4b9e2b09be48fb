"""What a run is told, as it is written down."""

from pipeline.batch.config import RunConfig
from pipeline.storage import Uri


def test_what_is_written_down_holds_no_credential() -> None:
    model = Uri("https://user:hidden@host/model.safetensors?X-Amz-Signature=hidden")
    config = RunConfig(input=Uri("s3://key:hid/den@b/in"), output=Uri("/out"), model=model, prices=model)
    written = str(config.redacted())
    assert "hid" not in written
    assert "host/model.safetensors" in written
