# shellcheck shell=bash
# Waits until the host says that it is prepared by the script GPUCTL_SCRIPT (SHA-256), also across a restart, and prints what it found.

main() {
  local result=/var/lib/gpuctl/host/result.json deadline=$((SECONDS + 900)) text=''
  while ((SECONDS < deadline)); do
    text=$(tr -d '\n' <"$result" 2>/dev/null)
    if [[ $text == *'"script":"'"$GPUCTL_SCRIPT"'"'* ]]; then
      case $text in
        *'"state":"prepared"'*)
          printf '%s\n' "$text"
          return 0
          ;;
        *'"state":"failed"'* | *'"state":"refused"'*) break ;;
      esac
    fi
    sleep 2
  done
  echo "the host did not become prepared: ${text:-there is no $result}" >&2
  tail -n 20 /var/log/gpuctl/prepare.jsonl >&2
  return 1
}
