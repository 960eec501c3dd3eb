"""facelib: face verification by contrastive learning, ArcFace against InfoNCE."""
