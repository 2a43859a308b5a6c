#!/usr/bin/env bash
# Runs ttc_jax on a GKE cluster that XPK (https://github.com/AI-Hypercomputer/xpk) has made.
#
#   bash launch/xpk.sh COMMAND --name=NAME --cluster=NAME --zone=ZONE [--flag=value ...] [-- FLAGS]
#
# Commands
#   run      submits `ttc run --hosts=auto --config=... --workdir=...` as a workload with this
#            folder's code; GKE starts it again after a preemption, which continues the run
#   status   what XPK knows of the workload
#   logs     follows the logs of all its workers (needs kubectl)
#   delete   ends the workload, without asking
#
# Flags, and variables that stand for them
#   --name=NAME       of the workload                                  TTC_XPK_NAME
#   --cluster=NAME    that runs it                                     TTC_XPK_CLUSTER
#   --zone=ZONE       of the cluster, as in us-west4-a                 TTC_XPK_ZONE
#   --project=ID      by default that of gcloud                        TTC_XPK_PROJECT
#   --type=TYPE       v5litepod-16 (or v5e-16), v6e-8, v5p-8, ...      TTC_XPK_TYPE
#   --image=IMAGE     with bash and Python 3.11 to 3.13 (python:3.12)  TTC_XPK_IMAGE
#   --restarts=N      after a worker was lost (50)
#   --config=SPEC     a file of configs/ or its name, perhaps with a variant
#   --workdir=DIR     an absolute path in storage that the cluster mounts. For a bucket, once:
#                     xpk storage attach results --type=gcsfuse --bucket=BUCKET --size=1 \
#                       --mount-point=/results --readonly=false --auto-mount=true \
#                       --mount-options=implicit-dirs,metadata-cache:ttl-secs:0 \
#                       --cluster=CLUSTER --zone=ZONE
#   --config.X=VALUE  sets a field of the config
#   --job=JOB         another job of ttc than run
#   --dry-run         prints the commands that would be run, and runs none
#
# What stands behind -- goes to `xpk workload create`: --spot, --priority=high, or --env-file=FILE
# with the line HF_TOKEN, which passes yours on, for gated models of the Hugging Face hub.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh
# shellcheck source=launch/remote.sh
. launch/remote.sh

own_flag() {
  case $1 in
    --cluster=*) cluster=$2 ;;
    --image=*) image=$2 ;;
    --restarts=*) restarts=$2 ;;
    *) return 1 ;;
  esac
}

check() {
  local tool=xpk
  needed name "$name" "a name for the workload, or TTC_XPK_NAME"
  needed cluster "$cluster" "the cluster that runs it, or TTC_XPK_CLUSTER"
  needed zone "$zone" "as in --zone=us-west4-a, or TTC_XPK_ZONE"
  case $restarts in '' | *[!0-9]*) die "--restarts=$restarts: must be a whole number" ;; esac
  if [ "$command" = run ]; then
    needed type "$type" "as in --type=v5litepod-16, or TTC_XPK_TYPE"
    check_job
    case $workdir in
      /?*) ;;
      *) die "--workdir=$workdir: must be an absolute path in storage that the cluster mounts;" \
        "see --help for a bucket" ;;
    esac
  elif [ ${#extra[@]} -gt 0 ]; then
    die "flags behind -- are for run: ${extra[0]}"
  fi
  if [ "$command" = logs ]; then tool=kubectl; fi
  [ -n "$dry" ] || command -v "$tool" >/dev/null || die "$tool is not installed"
}

# XPK copies a folder into the image: only what workers need, without .venv and runs.
run() {
  call rm -rf "$STAGE/image"
  call mkdir -p "$STAGE/image"
  call cp -R "${PARTS[@]}" "$STAGE/image"
  call xpk workload create "--workload=$name" "${where[@]}" "--tpu-type=$type" \
    "--max-restarts=$restarts" "--base-docker-image=$image" "--script-dir=$STAGE/image" \
    "--command=bash launch/worker.sh setup && $(ttc_line bash launch/worker.sh run)" \
    ${extra[@]+"${extra[@]}"}
}

status() { call xpk workload list "--filter-by-job=$name" "${where[@]}"; }

logs() {
  call gcloud container clusters get-credentials "$cluster" "--location=${zone%-*}" \
    ${project:+"--project=$project"}
  call kubectl logs --follow --prefix --tail=20 --max-log-requests=1000 --container=jax-tpu \
    "--selector=jobset.sigs.k8s.io/jobset-name=$name"
}

delete() { call xpk workload delete "--workload=$name" --force "${where[@]}"; }

command=${1:-}
case " $* " in *" --help "* | *" -h "*) command=--help ;; esac
name=${TTC_XPK_NAME:-} zone=${TTC_XPK_ZONE:-} project=${TTC_XPK_PROJECT:-} type=${TTC_XPK_TYPE:-}
cluster=${TTC_XPK_CLUSTER:-} image=${TTC_XPK_IMAGE:-python:3.12} restarts=50
case $command in
  --help | -h | help)
    usage
    exit
    ;;
  run | status | logs | delete) ;;
  *) die "unknown command '$command': run, status, logs or delete" ;;
esac
shift
parse "$@"
check
where=("--cluster=$cluster" "--zone=$zone" ${project:+"--project=$project"})
"$command"
