/**
 * Shared by scripts that remove what environments of a host have in common. Their arguments begin with ROOT. `others_name TEXT` prints a
 * release record of another environment below the same data directory that holds a text, and fails when there is none.
 */
export const othersParts = `own=$1; shift
others_name() {
  for f in "\${own%/*/*}"/*/*/releases/r*.json; do
    case $f in "$own"/*) continue ;; esac
    if grep -qF -e "$1" "$f" 2>/dev/null; then echo "$f"; return 0; fi
  done
  return 1
}`;
