"""The main job on real data, in processes, on one machine."""
