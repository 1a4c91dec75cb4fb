import { shellQuoted } from "./remote-program.js";

/** What tells boxes apart: where one answers, and the key that it shows. */
export interface Endpoint {
  host: string;
  port: number;
  hostKey: string;
}

/**
 * A local command that remembers a node's box by what it prints, and is handed that when it runs again for other settings. With the same
 * key it is the same box at another address, with the same address the same one with another key, as after an installation; with neither
 * it is another box, and the command ends with words.
 */
export function rememberedBox(node: string, { host, port, hostKey }: Endpoint): string {
  const another = `and would become another one: address and hostKey both differ. What gpuctl made on the first box would stay there. Give the other box a node of its own, with another name; take ${node} out of the stack when its box is to be given back`;
  return [
    `now=${shellQuoted(`${host}:${port} ${hostKey}`)}`,
    "before=${PULUMI_COMMAND_STDOUT:-$now}",
    'if [ "${before%% *}" != "${now%% *}" ] && [ "${before#* }" != "${now#* }" ]; then',
    `  printf '%s was the box at %s, %s\\n' ${shellQuoted(node)} "\${before%% *}" ${shellQuoted(another)} >&2`,
    "  exit 1",
    "fi",
    String.raw`printf '%s\n' "$now"`,
  ].join("\n");
}
