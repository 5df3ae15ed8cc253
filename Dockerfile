# Images with stmn, for CPUs and for CUDA:
#
#   docker build --target cpu -t stmn .
#   docker build --target cuda -t stmn:cuda .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" stmn prepare videos mine
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" --gpus all stmn:cuda prepare videos mine
#
# The folder with videos, data/ and runs/ is mounted at /work. The image for CUDA needs NVIDIA's container toolkit on the
# host, and brings CUDA's libraries with PyTorch.

FROM python:3.12-slim AS base
# Triton and torch.compile call the compiler when they run
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ libc6-dev && rm -rf /var/lib/apt/lists/*
# caches go where every user can write
ENV PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=constraints.txt HOME=/tmp
WORKDIR /src
COPY . .

# kernels are built for all CPUs of this kind of machine

FROM base AS cpu
# an index with PyTorch for CPUs alone: the image is several gigabytes smaller
ARG TORCH_INDEX=""
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
RUN STMN_BUILD_KERNELS=1 pip install '.[export,report]'
RUN stmn doctor
ENV PIP_CONSTRAINT=""
WORKDIR /work
ENTRYPOINT ["stmn"]

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN STMN_BUILD_KERNELS=1 pip install '.[export,report]'
RUN stmn doctor
ENV PIP_CONSTRAINT=""
WORKDIR /work
ENTRYPOINT ["stmn"]
