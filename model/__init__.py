"""Models: images to answers, without HTTP."""
