"""The Open Inference Protocol, version 2, over HTTP, as KServe and Triton's clients speak it."""

from fastapi import APIRouter

from vimserve.server.routes.open_inference import infer, metadata, repository, statistics

router = APIRouter(tags=["open inference protocol"])
for _part in (statistics, metadata, infer, repository):
    router.include_router(_part.router)
