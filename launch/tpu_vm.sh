#!/usr/bin/env bash
# Runs ttc_jax on all workers of a Cloud TPU VM, one of several hosts included.
#
#   bash launch/tpu_vm.sh COMMAND --name=NAME --zone=ZONE [--flag=value ...] [-- FLAGS]
#
# Commands
#   create   asks for the TPU as a queued resource, and waits until it is ready
#   setup    copies this folder to all workers, and makes .venv there (and gets a Python for it)
#   weights  copies models of the hub into a bucket, once, by one worker
#   run      starts `ttc run --hosts=auto --config=... --workdir=...` on all workers
#   status   the state of the TPU, and of each worker with its last line of progress
#   logs     follows the logs of all workers until you interrupt it; the run goes on
#   stop     ends the run; `run` continues it
#   fetch    copies what a run has written from its bucket, and draws the figures of its reports
#   delete   gives the TPU back, with all that is on its disks, without asking
#   watch    all of this until the run has finished: creates what is not there, sets up, runs, and
#            after a preemption deletes, creates, sets up and runs again, which continues the run;
#            then fetches, with --to
#
# Flags, and variables that stand for them
#   --name=NAME       of the TPU and its queued resource               TTC_TPU_NAME
#   --zone=ZONE       as in us-west4-a                                 TTC_TPU_ZONE
#   --project=ID      by default that of gcloud                        TTC_TPU_PROJECT
#   --type=TYPE       v5litepod-16 (or v5e-16), v6e-8, v5p-8, ...      TTC_TPU_TYPE
#   --version=NAME    image of the workers; by default the type's      TTC_TPU_VERSION
#   --spot            cheaper, and may be taken away                   TTC_TPU_SPOT=yes
#   --token=FILE      with a token of the Hugging Face hub, for gated models; `setup` copies it to
#                     the workers; relative paths start here           TTC_TPU_TOKEN
#   --config=SPEC     a file of configs/ or its name, perhaps with a variant
#   --workdir=DIR     gs://BUCKET/FOLDER, or an absolute path that all workers share
#   --to=DIR          a folder here, for what `fetch` copies
#   --models=DIR      gs://BUCKET/FOLDER, or an absolute path that all workers share, where `run`
#                     looks for models before it asks the hub        TTC_TPU_MODELS
#   --model=NAME      of the hub, for `weights`; one flag a model
#   --config.X=VALUE  sets a field of the config; gs://BUCKET/... is a path too
#   --job=JOB         another job of ttc than run
#   --interval=S      seconds between two looks of create and watch (60)
#   --dry-run         prints the commands that would be run, and runs none
#
# What stands behind -- goes to `gcloud compute tpus queued-resources create`: --network=..., say.
# To reach several workers gcloud needs its key in the agent: ssh-add ~/.ssh/google_compute_engine
#
# Example
#   bash launch/tpu_vm.sh watch --name=search --zone=us-west4-a --type=v5e-16 --spot \
#     --config=configs/tpu.py:qwen2.5-1.5b,v5e-16 --workdir=gs://my-bucket/qwen
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh
# shellcheck source=launch/remote.sh
. launch/remote.sh
# shellcheck source=launch/gcloud.sh
. launch/gcloud.sh

TROUBLES=5 # things that may go wrong in a row before `watch` gives up

own_flag() {
  case $1 in
    --version=*) version=$2 ;;
    --spot) spot=yes ;;
    --token=*) token=$2 ;;
    --interval=*) interval=$2 ;;
    --to=*) to=$2 ;;
    --models=*) models=$2 ;;
    --model=*) names+=("$2") ;;
    *) return 1 ;;
  esac
}

check() {
  needed name "$name" "a name for the TPU, or TTC_TPU_NAME"
  needed zone "$zone" "as in --zone=us-west4-a, or TTC_TPU_ZONE"
  case $spot in '' | yes) ;; *) die "TTC_TPU_SPOT=$spot: must be yes or empty" ;; esac
  case $interval in '' | *[!0-9]*) die "--interval=$interval: must be whole seconds" ;; esac
  case $command in
    create | watch) check_type ;;
    *) [ ${#extra[@]} -eq 0 ] || die "flags behind -- are for create and watch: ${extra[0]}" ;;
  esac
  case $command in run | watch) check_job && check_workdir ;; esac
  if [ -n "$models" ]; then check_shared models "$models"; fi
  if [ "$command" = weights ]; then
    needed models "$models" "where they go, as in --models=gs://BUCKET/models"
    [ ${#names[@]} -gt 0 ] || die "--model is missing: a name of the hub; one flag a model"
    for model in "${names[@]}"; do
      [[ $model =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+$ ]] ||
        die "--model=$model: must be ORGANISATION/NAME, as on the hub"
    done
  fi
  case $command in
    fetch)
      needed to "$to" "a folder here"
      [[ $workdir == gs://?* ]] || die "--workdir=$workdir: must be the gs://BUCKET/FOLDER of a run"
      ;;
    watch) [[ -z $to || $workdir == gs://* ]] || die "--to is for results in a bucket" ;;
  esac
  case $command in
    setup | watch)
      if [ -n "$token" ]; then
        needed token "$token" "a file"
        [ -f "$token" ] || die "--token=$token: no such file"
      fi
      ;;
  esac
  [ -n "$dry" ] || command -v gcloud >/dev/null ||
    die "gcloud is not installed: see https://cloud.google.com/sdk/docs/install"
}

check_type() {
  needed type "$type" "as in --type=v5litepod-16, or TTC_TPU_TYPE"
  if [ -n "$version" ]; then return; fi
  case $type in
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    v[234]-*) version=tpu-ubuntu2204-base ;;
    *) die "--type=$type: its image is not known here; name it with --version=..." ;;
  esac
}

check_workdir() { check_shared workdir "$workdir"; }

# check_shared FLAG VALUE: refuses what goes with a TPU.
check_shared() {
  case $2 in
    gs://?* | /?*) ;;
    *) die "--$1=$2: must be gs://BUCKET/FOLDER or an absolute path that all workers share; the" \
      "disks of a TPU go with it" ;;
  esac
}

# describe queued-resources|tpu-vm FIELD: its value; ABSENT where there is no such thing.
describe() {
  local value
  if value=$(gcloud compute tpus "$1" describe "$name" "--format=value($2)" "${where[@]}" \
    2>"$said"); then
    printf '%s\n' "$value"
  elif grep -qi 'NOT_FOUND\|not found' "$said"; then
    echo ABSENT
  else
    explain
    return 1
  fi
}

# The state of the queued resource until that is active, then of the TPU.
state() {
  local queued
  queued=$(describe queued-resources state.state) || return 1
  if [ "$queued" = ACTIVE ]; then
    queued=$(describe tpu-vm state) || return 1
    if [ "$queued" = ABSENT ]; then queued=GONE; fi
  fi
  printf '%s\n' "$queued"
}

copy() { cloud compute tpus tpu-vm scp "$1" "$name:$2" --worker=all "${where[@]}"; }

ask() {
  cloud compute tpus queued-resources create "$name" "--node-id=$name" \
    "--accelerator-type=$type" "--runtime-version=$version" ${spot:+--spot} "${where[@]}" \
    ${extra[@]+"${extra[@]}"}
}

create() {
  local now before=''
  ask
  if [ -n "$dry" ]; then
    echo "# every $interval s until it is ready"
    describe_commands
    return
  fi
  while :; do
    now=$(state)
    if [ "$now" != "$before" ]; then say "$(date +%T) $name: $now"; fi
    case $now in
      READY) return ;;
      ABSENT | FAILED | SUSPENDED | GONE | PREEMPTED | TERMINATED | STOPPED)
        fail "$name is $now, so the TPU did not come: delete it, and create it anew"
        ;;
    esac
    before=$now
    sleep "$interval"
  done
}

# Each step only after the one before, also where `watch` goes on after a failure.
setup() {
  call tar -czf "$STAGE/ttc_jax.tar.gz" --exclude=__pycache__ "${PARTS[@]}" &&
    copy "$STAGE/ttc_jax.tar.gz" "" &&
    { [ -z "$token" ] || copy "$token" hf_token; } &&
    on_workers "mkdir -p ttc_jax && cd ttc_jax && rm -rf ttc_jax configs launch &&\
 tar -xzf ../ttc_jax.tar.gz && bash launch/worker.sh setup"
}

weights() {
  on_workers "$(quoted bash ttc_jax/launch/worker.sh weights "$models" "${names[@]}")" 0
}

start() {
  on_workers "$(ttc_line bash ttc_jax/launch/worker.sh start ${models:+"--models=$models"})"
}

fetch() {
  local found
  call mkdir -p "$to" && cloud storage rsync --recursive "$workdir" "$to" || return 1
  if [ -n "$dry" ]; then return; fi
  while IFS= read -r found; do
    make_environment ""
    .venv/bin/ttc plot --workdir="$(dirname "$found")"
  done < <(find "$to" -name summaries.json)
  echo "results: $to"
}

workers_status() {
  on_workers "if [ -f ttc_jax/launch/worker.sh ]; then bash ttc_jax/launch/worker.sh status;\
 else echo \"worker \${HOSTNAME##*-w-}: new\"; fi"
}

status() {
  local now
  if [ -n "$dry" ]; then
    describe_commands
    workers_status
    return
  fi
  now=$(state)
  echo "$name: $now"
  if [ "$now" = READY ]; then workers_status; fi
}

describe_commands() {
  cloud compute tpus queued-resources describe "$name" "--format=value(state.state)" \
    "${where[@]}"
  cloud compute tpus tpu-vm describe "$name" "--format=value(state)" "${where[@]}"
}

stop() { on_workers "bash ttc_jax/launch/worker.sh stop"; }

delete() {
  cloud compute tpus queued-resources delete "$name" --force "${where[@]}"
}

trouble() {
  [ -z "$fatal" ] || fail "gave up: $1"
  troubles=$((troubles + 1))
  [ "$troubles" -lt "$TROUBLES" ] || fail "gave up: $1, the last of $TROUBLES troubles in a row"
  say "$1; trying again"
}

watch() {
  local now before='' report started='' troubles=0
  if [ -n "$dry" ]; then
    watch_commands
    return
  fi
  while :; do
    now=$(state) || now=UNKNOWN
    if [ "$now" != "$before" ]; then say "$(date +%T) $name: $now"; fi
    before=$now
    case $now in
      ABSENT) ask || trouble "the TPU was refused" ;;
      READY)
        if report=$(workers_status); then
          if attend; then
            if [ -n "$to" ]; then fetch; fi
            return
          fi
        else
          trouble "not all workers answer"
        fi
        ;;
      FAILED | SUSPENDED | GONE | PREEMPTED | TERMINATED | STOPPED)
        if [ "$now" = FAILED ]; then trouble "the request for the TPU failed"; fi
        if delete; then continue; fi
        trouble "the TPU could not be deleted"
        ;;
      UNKNOWN) trouble "gcloud does not answer" ;;
    esac
    sleep "$interval"
  done
}

# Does what the workers' `report` asks for; returns 0 when the run has finished.
attend() {
  local workers
  workers=$(grep -c '^worker ' <<<"$report" || true)
  if [ "$(in_state running)" -gt 0 ]; then
    started=yes troubles=0
    say "$(date +%T) $(head -n 1 <<<"$report")"
  elif [ -n "$started" ] && [ "$(in_state finished)" = "$workers" ]; then
    echo "$report"
    return 0
  elif [ -n "$started" ] && [ "$(in_state 'failed 2')" = "$workers" ]; then
    echo "$report"
    fail "the run cannot go on as it is: mend what its last lines say, and watch again"
  else
    if [ -n "$started" ]; then
      echo "$report" >&2
      trouble "the run has stopped"
    fi
    if setup && { [ ${#names[@]} -eq 0 ] || weights; } && start; then started=yes; else trouble "the run could not be started"; fi
  fi
  return 1
}

in_state() { grep -c "^worker [^ ]*: $1:" <<<"$report" || true; }

watch_commands() {
  echo "# every $interval s"
  describe_commands
  echo "# where there is no TPU"
  ask
  echo "# once it is ready, and whenever it has stopped running"
  setup
  [ ${#names[@]} -eq 0 ] || weights
  start
  echo "# every $interval s while it runs"
  workers_status
  echo "# after a preemption, and then from the top"
  delete
  if [ -n "$to" ]; then
    echo "# when it has finished"
    fetch
  fi
}

command=${1:-}
case " $* " in *" --help "* | *" -h "*) command=--help ;; esac
name=${TTC_TPU_NAME:-} zone=${TTC_TPU_ZONE:-} project=${TTC_TPU_PROJECT:-} type=${TTC_TPU_TYPE:-}
version=${TTC_TPU_VERSION:-} spot=${TTC_TPU_SPOT:-} token=${TTC_TPU_TOKEN:-} interval=60
models=${TTC_TPU_MODELS:-} names=() to='' fatal=''
case $command in
  --help | -h | help)
    usage
    exit
    ;;
  create | setup | weights | run | status | logs | stop | fetch | delete | watch) ;;
  *)
    die "unknown command '$command': create, setup, weights, run, status, logs, stop, fetch," \
      "delete or watch"
    ;;
esac
shift
parse "$@"
check
where=(--quiet "--zone=$zone" ${project:+"--project=$project"})
mkdir -p "$STAGE"
said=$(mktemp) # by gcloud, on stderr
trap 'rm -f "$said" "$said.own"' EXIT
case $command in
  run) start ;;
  logs) on_workers "bash ttc_jax/launch/worker.sh logs" ;;
  *) "$command" ;;
esac
