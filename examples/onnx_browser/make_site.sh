#!/bin/sh
# Make the folder site, for any web server, of a network that reads digits: sh make_site.sh runs/digits
set -eu
# The drawing page comes with two things that index.html uses: onnxruntime-web, and picture.js, which prepares pictures.
python -m ddp_numpy.serve --weights "$1" --static site/drawing --onnxruntime
python -m ddp_numpy.export --weights "$1" site/model.onnx
cp "$(dirname "$0")/index.html" site
