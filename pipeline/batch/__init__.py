"""The main job on Ray Data: bucket -> manifest -> fetch -> Segmenter -> Refiner -> Parquet."""
