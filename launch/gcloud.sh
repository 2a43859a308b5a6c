# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables are those of tpu_vm.sh, which sources this file
# Calls gcloud, and says in one line what its errors ask for.

# What gcloud says, as a pattern, and what is said instead. The first that fits is taken, so that
# what is more particular comes first. FATAL stands before what no waiting mends.
meaning() {
  local text=$1 there="$name in $zone" own
  for own in "$name" "${project:-}"; do  # which may hold words that mean something below
    if [ ${#own} -ge 6 ]; then text=${text//"$own"/OWN}; fi
  done
  case ${text,,} in
    *"/nodes/"*not*found* | *"/queuedresources/"*not*found* | *not_found*"/nodes/"* | \
      *not_found*"/queuedresources/"*)
      echo "FATAL there is no TPU called $there: create it first"
      ;;
    *scp:*"permission denied"*)
      echo "FATAL a worker may not write or read that file: delete what another account left there"
      ;;
    *"active account"* | *"auth login"* | *reauthentication* | *invalid_grant*)
      echo "FATAL gcloud is not logged in: run gcloud auth login"
      ;;
    *"property [project]"* | *"project property"* | *"failed to find project"* | \
      *"invalid project"* | *"project_not_found"* | *"project"*"not found or deleted"*)
      echo "FATAL there is no such project: name yours with --project=ID, or by gcloud config set" \
        "project ID"
      ;;
    *billing*)
      echo "FATAL the project has no active billing account: link one at" \
        "https://console.cloud.google.com/billing"
      ;;
    *service_disabled* | *"has not been used in project"* | *"api"*"is not enabled"* | \
      *"it is disabled"*)
      echo "FATAL the project's TPU API is off: run gcloud services enable tpu.googleapis.com"
      ;;
    *quota*exceed* | *quota_exceeded* | *"exceeded quota"* | *quotafailure* | \
      *"quota limit"* | *"insufficient quota"*)
      echo "FATAL no quota for ${type:-this type}${spot:+ (spot)} in $zone: ask for it at" \
        "https://console.cloud.google.com/iam-admin/quotas, or try another --zone or --type"
      ;;
    *"no more capacity"* | *stockout* | *"insufficient capacity"* | *resource_pool_exhausted* | \
      *"currently unavailable"* | *"not enough resources"* | *resource_exhausted*)
      echo "$zone has no free ${type:-TPU} now: wait, or try another --zone or --spot"
      ;;
    *already_exists* | *"already exists"*)
      echo "FATAL $there exists already: use it, delete it, or choose another --name"
      ;;
    *"permission denied on 'locations/"* | *"permission denied on location"* | \
      *"location"*"not found"* | *"locations/"*"not found"* | *"invalid zone"* | *"unknown zone"*)
      echo "FATAL $zone is no zone with TPUs that this project may use: run" \
        "gcloud compute tpus locations list"
      ;;
    *"accelerator type"* | *acceleratortype* | *accelerator_type*)
      echo "FATAL $zone does not offer ${type:-this type}: run" \
        "gcloud compute tpus accelerator-types list --zone=$zone"
      ;;
    *"runtime version"* | *runtimeversion* | *"runtime_version"* | *"software version"*)
      echo "FATAL $zone has no image called ${version:-so}: run gcloud compute tpus versions list" \
        "--zone=$zone, and name one with --version"
      ;;
    *network*"not found"* | *"networks/"*"not found"* | *subnetwork*"not found"*)
      echo "FATAL the project has no such network: name one with -- --network=NAME"
      ;;
    *"serviceaccount"* | *"service account"* | *"iam.serviceaccounts.actas"*)
      echo "FATAL you may not use the TPU's service account: ask for the role" \
        "roles/iam.serviceAccountUser"
      ;;
    *publickey* | *propagat* | *"ssh-add"* | *"host key verification"* | *"key_load"*)
      echo "the workers refuse your SSH key: run ssh-add ~/.ssh/google_compute_engine, and with OS" \
        "Login ask for the role roles/compute.osLogin"
      ;;
    *"port 22"* | *"connection timed out"* | *"connection refused"* | *"connection closed"* | \
      *"operation timed out"*)
      echo "the workers do not answer at port 22: they may still be starting; else the network" \
        "needs a firewall rule that lets SSH in"
      ;;
    *permission_denied* | *"does not have permission"* | *forbidden* | *"permission denied"* | \
      *"required '"*"' permission"*)
      echo "FATAL your account may not do this: ask for the role roles/tpu.admin in the project"
      ;;
    *bucket* | *"storage.googleapis"*)
      echo "FATAL the bucket is not there, or you may not read it: run gcloud storage ls" \
        "${workdir:-gs://BUCKET}"
      ;;
    *"no space left"*) echo "FATAL no space is left on the disk" ;;
    *"invalid choice"* | *"unrecognized arguments"*)
      echo "FATAL this gcloud is too old: run gcloud components update"
      ;;
    *not_found* | *"not found"*)
      echo "FATAL there is no TPU called $there: create it first"
      ;;
    *"name or service not known"* | *"name resolution"* | *"network is unreachable"* | \
      *"unable to find the server"* | *"max retries exceeded"* | *"connectionerror"*)
      echo "this machine does not reach Google Cloud: look at its network"
      ;;
    *unavailable* | *deadline* | *internal* | *"try again"* | *aborted*)
      echo "Google Cloud did not answer as it should: try again"
      ;;
  esac
}

# Says what the last error of gcloud, in the file $said, asks for; where that is not known, all of
# what it said. Sets `fatal` where no waiting mends it.
explain() {
  local line
  line=$(meaning "$(cat "$said")")
  fatal=''
  case $line in
    '') cat "$said" >&2 ;;
    FATAL*)
      fatal=yes
      say "$(basename "$0"): ${line#FATAL }"
      ;;
    *) say "$(basename "$0"): $line" ;;
  esac
}

# cloud ARGUMENTS: runs gcloud, or with --dry-run prints the call.
cloud() {
  if [ -n "$dry" ]; then
    quoted gcloud "$@"
  elif ! gcloud "$@" 2>"$said"; then
    explain
    return 1
  fi
}

# on_workers LINE [WORKER]: runs a line of shell on all workers, or on one. What they say on stderr
# is shown while they say it.
on_workers() {
  local code=0
  set -- compute tpus tpu-vm ssh "$name" "--worker=${2:-all}" "--command=$1" "${where[@]}"
  if [ -n "$dry" ]; then
    quoted gcloud "$@"
    return
  fi
  { gcloud "$@" 2>&1 >&3 3>&- | tee "$said" >&2; } 3>&1 || code=$?
  if [ "$code" -ne 0 ]; then
    # What the workers' own programs say is theirs to explain, and has been shown.
    grep -iE '^error: |publickey|host key|port 22' "$said" >"$said.own" || true
    mv "$said.own" "$said"
    if [ -n "$(meaning "$(cat "$said")")" ]; then explain; fi
  fi
  return "$code"
}
