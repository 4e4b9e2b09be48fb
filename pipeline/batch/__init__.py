"""The main job on Ray Data: bucket -> manifest -> fetch -> SegmentStage -> RefineStage -> Parquet."""
