#!/usr/bin/env bash
# What tpu_vm.sh and xpk.sh do on a TPU worker, in the folder of this repository there.
#
#   bash launch/worker.sh setup          .venv with JAX for TPU, and a Python where there is none
#   bash launch/worker.sh weights DIR NAME ...  copies models of the hub to DIR, those not there
#   bash launch/worker.sh run JOB ...    `ttc JOB ...`
#   bash launch/worker.sh start JOB ...  the same in the background, with a log
#   bash launch/worker.sh status         one line: new, running, finished, failed or stopped
#   bash launch/worker.sh logs           follows the log, each line with the worker's number
#   bash launch/worker.sh stop           ends what `start` began
#
# gs://BUCKET/FOLDER, for DIR, --workdir or a field of the config, is a folder of the bucket, mounted
# below ~/gs with gcsfuse. `run` and `start` take --models=DIR too: it is looked at before the hub.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh

here=runs/worker         # log, pid, exit code and lock of what `start` began
# What is read of a model, as in ttc_jax/models/hub.py.
WANTED=(config.json generation_config.json 'model*.safetensors' model.safetensors.index.json
  'tokenizer*' special_tokens_map.json added_tokens.json vocab.json merges.txt 'chat_template*')
number=${HOSTNAME##*-w-} # TPU VMs are called t1v-n-…-w-NUMBER
mkdir -p "$here"

# Images of TPU VMs come with an older Python.
get_python() {
  if venv_fits || (find_python) >/dev/null 2>&1; then return; fi
  say "There is no Python 3.11 to 3.13: getting one with uv ..."
  if [ ! -x .uv/uv ]; then
    curl -LsSf --retry 5 https://astral.sh/uv/install.sh -o "$here/install-uv.sh" ||
      die "uv, which brings Python, could not be downloaded"
    UV_UNMANAGED_INSTALL="$PWD/.uv" sh "$here/install-uv.sh" >&2
  fi
  UV_PYTHON_INSTALL_DIR="$PWD/.uv/python" .uv/uv python install 3.12 >&2
  PYTHON=$(UV_PYTHON_INSTALL_DIR="$PWD/.uv/python" .uv/uv python find --managed-python 3.12)
  export PYTHON
}

setup() {
  if [ -f ~/hf_token ]; then
    mkdir -p ~/.cache/huggingface
    chmod 600 ~/hf_token
    mv ~/hf_token ~/.cache/huggingface/token
  fi
  get_python
  make_environment tpu
}

install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc apt=https://packages.cloud.google.com/apt codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  curl -fsSL --retry 5 "$apt/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $apt gcsfuse-$codename main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get update -qq
  sudo apt-get install -qq -y gcsfuse >&2
}

# mounted gs://BUCKET/FOLDER: that folder's path here.
mounted() {
  local path=${1#gs://} bucket
  bucket=${path%%/*}
  if ! mountpoint -q ~/gs/"$bucket"; then
    command -v gcsfuse >/dev/null || install_gcsfuse
    mkdir -p ~/gs/"$bucket"
    # On TPU machines gcsfuse would remember forever what other workers have long added to.
    gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --rename-dir-limit=200000 \
      "$bucket" ~/gs/"$bucket" >&2 || die "gs://$bucket could not be mounted, see above"
  fi
  printf '%s\n' ~/gs/"$path"
}

# The arguments of `ttc`, with a folder of this machine for one of a bucket.
localised() {
  local argument folder
  arguments=()
  for argument in "$@"; do
    case $argument in
      --workdir=gs://?* | --models=gs://?* | --config.*=gs://?*)
        folder=$(mounted "${argument#*=}")
        argument=${argument%%=*}=$folder
        ;;
    esac
    case $argument in
      --models=*) export TTC_MODELS=${argument#*=} ;;
      *) arguments+=("$argument") ;;
    esac
  done
}

# weights DIR NAME...: a model is whole once its folder is called by its name.
weights() {
  local models=$1 name new
  case $models in gs://*) models=$(mounted "$models") ;; esac
  shift
  for name in "$@"; do
    if [ -d "$models/$name" ]; then
      say "$name is in $models already"
      continue
    fi
    new=$models/$name.new
    rm -rf "$new"
    mkdir -p "$new"
    # First to this machine's disk: the hub's program locks and links, which buckets do not know.
    .venv/bin/hf download "$name" --quiet --local-dir "$here/$name" --include "${WANTED[@]}" ||
      die "$name could not be downloaded from the hub, see above; gated models need --token"
    rm -rf "$here/$name/.cache"
    cp -R "$here/$name/." "$new"
    mv "$new" "$models/$name"
    rm -rf "${here:?}/$name"
    echo "$models/$name"
  done
}

# Whether something runs: it holds the lock until its last process has ended.
running() { ! flock -n "$here/lock" true; }

# The last line of the log; a bar of progress is one line in many versions.
progress() {
  tail -c 8192 "$here/log" 2>/dev/null | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 || true
}

status() {
  if running; then
    echo "running: $(progress)"
  elif [ -f "$here/exit" ]; then
    case $(cat "$here/exit") in
      0) echo "finished: $(progress)" ;;
      *) echo "failed $(cat "$here/exit"): $(progress)" ;;
    esac
  elif [ -f "$here/log" ]; then
    echo "stopped: $(progress)"
  else
    echo "new"
  fi
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
  setup) setup ;;
  weights) weights "$@" ;;
  run)
    localised "$@"
    code=0
    .venv/bin/ttc "${arguments[@]}" || code=$?
    echo "$code" >"$here/exit"
    exit "$code"
    ;;
  start)
    [ -x .venv/bin/ttc ] || die "worker $number is not set up: run setup first"
    localised "$@" # before the lock, which gcsfuse would hold as long as it serves
    exec 9>"$here/lock"
    flock -n 9 || die "worker $number is running something already: stop it first"
    rm -f "$here/exit"
    setsid nohup bash launch/worker.sh run "${arguments[@]}" >>"$here/log" 2>&1 </dev/null &
    echo $! >"$here/pid"
    echo "worker $number: started"
    ;;
  status) echo "worker $number: $(status)" ;;
  logs)
    touch "$here/log"
    tail -n 20 -F "$here/log" | stdbuf -o0 tr '\r' '\n' | sed -u "s/^/worker $number: /"
    ;;
  stop)
    if running; then
      kill -- "-$(cat "$here/pid")"
      flock -w 60 "$here/lock" true || kill -KILL -- "-$(cat "$here/pid")"
    fi
    ;;
  *) die "unknown command '$command'" ;;
esac
