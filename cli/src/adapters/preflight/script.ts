import { probeNames, scriptBegin, scriptEnd, skippedWord, type ProbeName } from "../../domain/preflight/answers.js";
import { quoteWord } from "../../domain/ssh/shell-line.js";
import { dockerProbes } from "./docker-probes.js";
import { gpuProbes } from "./gpu-probes.js";
import { machineProbes } from "./machine-probes.js";
import type { Probe } from "./probe.js";

const probes: Readonly<Record<Exclude<ProbeName, "sudo" | "docker-access">, Probe>> = {
  ...machineProbes,
  ...dockerProbes,
  ...gpuProbes,
};

/** Bytes of one stream of one probe; a probe that says more has said nothing of use. */
const longest = 300_000;

export interface ScriptOptions {
  /** Where the node is to keep models, index and records. */
  dataDirectory: string;
  /** Seconds that no probe may exceed, whatever its own limit is; at most 15 by default. */
  longestProbe?: number;
  /** The probes to ask, for a look that must be quick; all by default. */
  only?: readonly ProbeName[];
}

/**
 * The preflight script for one node: POSIX sh, for stdin of `sh`. It reads and changes nothing. It runs as root, with passwordless
 * sudo or without either; what needs root then answers with the system's refusal, which is a fact too.
 */
export function preflightScript({ dataDirectory, longestProbe = 15, only = probeNames }: ScriptOptions): string {
  const records = probeNames.filter((name) => isAsked(name, only)).map((name) => record(name, longestProbe));
  return [
    "gpuctl_preflight() {",
    `data=${quoteWord(dataDirectory)}`,
    prelude,
    `printf '\\n%s\\n' ${quoteWord(scriptBegin)}`,
    ...records,
    `printf '%s\\n' ${quoteWord(scriptEnd)}`,
    "}",
    // Called at the end, so that a script that arrived in part does nothing.
    "gpuctl_preflight",
    "",
  ].join("\n");
}

/** What runs in Docker's name needs to know as whom. */
function isAsked(name: ProbeName, only: readonly ProbeName[]): boolean {
  if (only.includes(name)) return true;
  return name === "docker-access" && only.some((other) => other in dockerProbes);
}

function record(name: ProbeName, longestProbe: number): string {
  if (name === "sudo") return 'say sudo "$sudo_status" "$sudo_says"';
  if (name === "docker-access") return findDocker(Math.min(10, longestProbe));
  const { runner, seconds, script } = probes[name];
  return `probe ${name} ${runner} ${Math.min(seconds, longestProbe)} ${quoteWord(script)}`;
}

/**
 * Helpers of the script. Without `timeout` probes have no limit of their own, only the connection has one. `as_user`, `as_root` and `as_nobody` say as whom a command runs; each replaces
 * its own subshell.
 */
const prelude = String.raw`
LC_ALL=C LANGUAGE=''
PATH=${"${PATH:+$PATH:}"}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin:/usr/lib/wsl/lib
export LC_ALL LANGUAGE PATH
if command -v base64 >/dev/null 2>&1; then encode() { printf b; base64 | tr -d '\n'; }
else encode() { printf x; od -An -v -tx1 | tr -d ' \n'; }
fi
bounded() { head -c ${longest}; }
timer=''
if timeout -k 1 5 true >/dev/null 2>&1; then timer='timeout -k 1'
elif timeout 5 true >/dev/null 2>&1; then timer=timeout
fi
as_user() { exec "$@"; }
as_sudo() { exec sudo -n env LC_ALL=C LANGUAGE= "PATH=$PATH" "$@"; }
limited() { # AS_WHOM SECONDS COMMAND...
  whom=$1 seconds=$2; shift 2
  ( "$whom" ${'${timer:+$timer "$seconds"}'} "$@" ) </dev/null
}
as_root=as_user as_docker=''
sudo_says='' sudo_status=0
if [ "$(id -u)" != 0 ]; then
  sudo_says=$(limited as_user 5 sudo -n true 2>&1); sudo_status=$?
  if [ "$sudo_status" = 0 ]; then as_root=as_sudo; fi
fi
say() { # NAME STATUS TEXT
  printf '%s ' "$1"; printf '%s\n%s' "$3" "$2" | encode; printf ' '; printf '' | encode; printf '\n'
}
run() { # RUNNER SECONDS SCRIPT
  case $1 in root*) whom=$as_root ;; docker) whom=$as_docker ;; *) whom=as_user ;; esac
  limited "$whom" "$2" sh -c "$3" sh "$data"
}
probe() { # NAME RUNNER SECONDS SCRIPT
  case $2 in *docker) if [ -z "$as_docker" ]; then printf '%s ${skippedWord}\n' "$1"; return; fi ;; esac
  printf '%s begin\n%s ' "$1" "$1"
  {
    err=$( { out=$( { run "$2" "$3" "$4" 3>&-; printf '\n%s' "$?"; } | bounded | encode ); printf '%s ' "$out" >&3; } 2>&1 | bounded | encode )
    printf '%s\n' "$err"
  } 3>&1
}`.trim();

/** The engine is asked as this user first: it may be one of the docker group, or have an engine of its own. */
const findDocker = (seconds: number): string =>
  String.raw`
printf 'docker-access begin\n'
docker_says=$(limited as_user ${seconds} docker version --format '{{.Server.Version}}' 2>&1); docker_status=$?
docker_as=user
case $docker_status in
  0) as_docker=as_user ;;
  124 | 127 | 137 | 143) ;;
  *)
    if [ "$as_root" = as_sudo ]; then
      docker_says=$(limited as_sudo ${seconds} docker version --format '{{.Server.Version}}' 2>&1); docker_status=$?
      docker_as=sudo
      if [ "$docker_status" = 0 ]; then as_docker=as_sudo; fi
    fi
    ;;
esac
say docker-access "$docker_status" "$docker_as
$docker_says"`.trim();
