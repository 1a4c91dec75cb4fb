import { shellQuoted } from "./remote-program.js";

/** What `kubectl` is asked, of which cluster, and whether the kubeconfig comes on stdin instead of from the operator's own files. */
export interface KubectlRequest {
  context: string;
  args: readonly string[];
  ownConfig: boolean;
}

/**
 * A command of `sh` on the machine that runs Pulumi. A kubeconfig of the stack is read from stdin into a file that only this user can
 * read and that is gone afterwards: the same context may be another cluster in the operator's own.
 */
export const kubectl = (request: KubectlRequest): string => [...preparation(request), asked(request)].join("\n");

/** The same, content with a thing that is gone already: an answer that ends in one of `gone` is no error, any other one is. */
export function kubectlUnlessGone(request: KubectlRequest, gone: readonly string[]): string {
  const patterns = gone.map((end) => `*${shellQuoted(end)}`).join(" | ");
  return [
    ...preparation(request),
    `said=$(${asked(request)} 2>&1) && exit 0`,
    `case $said in ${patterns}) exit 0 ;; esac`,
    String.raw`printf '%s\n' "$said" >&2`,
    "exit 1",
  ].join("\n");
}

/** Ends with kubectl's own words, and with `words` behind them where a thing is not there; what kubectl prints else is nobody's. */
export function kubectlToFind(request: KubectlRequest, words: string): string {
  return [
    ...preparation(request),
    `said=$(${asked(request)} 2>&1) && exit 0`,
    String.raw`printf '%s\n' "$said" >&2`,
    `case $said in *NotFound*) echo ${shellQuoted(words)} >&2 ;; esac`,
    "exit 1",
  ].join("\n");
}

const asked = ({ context, args }: KubectlRequest): string =>
  ["kubectl", "--context", context, ...args].map(shellQuoted).join(" ");

function preparation({ ownConfig }: KubectlRequest): string[] {
  if (!ownConfig) return [];
  return [
    "umask 077",
    "KUBECONFIG=$(mktemp) && export KUBECONFIG || exit 1",
    "trap 'rm -f \"$KUBECONFIG\"' EXIT",
    "trap 'exit 1' HUP INT TERM",
    'cat >"$KUBECONFIG" || exit 1',
  ];
}
