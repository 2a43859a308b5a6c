# shellcheck shell=bash
# shellcheck disable=SC2034 # what is parsed here is read by the scripts that source this file
# Sourced by tpu_vm.sh and xpk.sh: the part of their command lines that is the same.

# What a worker gets of this folder.
PARTS=(pyproject.toml README.md LICENSE ttc_jax configs launch)
STAGE=build/launch

# For what went wrong although the command line was right.
fail() {
  say "$(basename "$0"): $*"
  exit 1
}

# Prints the comment at the head of the script.
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[1]}"; }

# Words as one line that a shell reads as these very words.
quoted() {
  local line
  printf -v line '%q ' "$@"
  printf '%s\n' "${line% }"
}

# Runs a command, or with --dry-run prints it.
call() { if [ -n "$dry" ]; then quoted "$@"; else "$@"; fi; }

# parse ARGUMENTS: sets the variables below. A flag that is not among them goes to `own_flag`, which
# takes it from $1 and its value from $2, or returns 1.
parse() {
  job=run config='' workdir='' dry='' fields=() extra=()
  while [ $# -gt 0 ]; do
    local value=${1#*=}
    case $1 in
      --name=*) name=$value ;;
      --zone=*) zone=$value ;;
      --project=*) project=$value ;;
      --type=*) type=$value ;;
      --job=*) job=$value ;;
      --config=*) config=$value ;;
      --workdir=*) workdir=$value ;;
      --config.* | --noconfig.*) fields+=("$1") ;;
      --dry-run) dry=yes ;;
      --)
        shift
        extra=("$@")
        break
        ;;
      *) own_flag "$1" "$value" || die "unknown argument $1; see --help" ;;
    esac
    shift
  done
  case $type in v5e-*) type=v5litepod-${type#v5e-} ;; esac # as configs/tpu.py calls it
}

# needed FLAG VALUE WHAT: refuses an empty value, and one that would be read as a flag.
needed() {
  [ -n "$2" ] || die "--$1 is missing: $3"
  case $2 in -*) die "--$1=$2: must not begin with a dash" ;; esac
}

# Checks what `ttc` is to run, before anything is paid for.
check_job() {
  needed config "$config" "a config, as in --config=configs/tpu.py:llama3.2-1b,v5e-16"
  needed workdir "$workdir" "where results go, as in --workdir=gs://BUCKET/FOLDER"
  local file=${config%%:*}
  case $file in
    configs/*) ;;
    */* | *.py) die "--config=$config: must be a file in configs/, which is what workers get" ;;
    *) file=configs/$file.py ;; # as `ttc` finds a config by its name
  esac
  [ -f "$file" ] || die "--config=$config: there is no file $file"
}

# Words, then the arguments of `ttc` on a worker, as one line.
ttc_line() {
  quoted "$@" "$job" --hosts=auto "--config=$config" "--workdir=$workdir" \
    ${fields[@]+"${fields[@]}"}
}
