"""What ``loadtests.gpu_check`` is made of; needs only torch, triton, numpy and pillow."""
