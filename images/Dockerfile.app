# What runs in the pods of the tests on a cluster: servers and clients that do as they are told. Packages of the base: none.
# The build folder holds the binary.
ARG BASE=weft-base/app
FROM ${BASE}
LABEL org.opencontainers.image.title="weft-e2e/app" \
      org.opencontainers.image.description="Servers and clients for Weft's tests"
COPY weft-e2e-app /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/weft-e2e-app"]
