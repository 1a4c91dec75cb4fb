/**
 * @pulumi/command as a double. Local commands run for real; remote ones are handed to the test with their connection. Of the provider's
 * source it keeps: `triggers` replace and anything else updates; an update without `update` runs `create` again; the last output is in
 * the environment; what is printed is a secret only where the program says so; a preview of a change knows no output; there is no
 * reading; a command that fails leaves no resource.
 */
import { randomBytes } from "node:crypto";
import { run } from "../../bed/shell.js";
import type { Made, ProviderDouble, ResourceKind } from "./provider.js";
import type { Properties } from "./values.js";

/** A command that was to run on another host. */
export interface RemoteCommand {
  step: "create" | "update" | "delete";
  connection: Properties;
  command: string;
  stdin: string;
  environment: Readonly<Record<string, string>>;
}

export interface RemoteAnswer {
  /** Exit status; 0 unless said. */
  code?: number;
  stdout?: string;
  stderr?: string;
}

/** What answers for all remote hosts. */
type AnswerRemote = (command: RemoteCommand) => RemoteAnswer | Promise<RemoteAnswer>;

type Runner = (
  step: RemoteCommand["step"],
  command: string,
  inputs: Properties,
  last: Properties,
) => Promise<Required<RemoteAnswer>>;

const textOf = (properties: Properties, key: string): string => (typeof properties[key] === "string" ? properties[key] : "");

function environmentOf(inputs: Properties, last: Properties): Record<string, string> {
  const given = (inputs["environment"] ?? {}) as Record<string, string>;
  if (inputs["addPreviousOutputInEnv"] === false) return given;
  const [stdout, stderr] = [textOf(last, "stdout"), textOf(last, "stderr")];
  return {
    ...given,
    ...(stdout === "" ? {} : { PULUMI_COMMAND_STDOUT: stdout }),
    ...(stderr === "" ? {} : { PULUMI_COMMAND_STDERR: stderr }),
  };
}

const locally =
  (environment: Readonly<Record<string, string>>): Runner =>
  async (_step, command, inputs, last) => {
    const [file = "/bin/sh", ...first] = (inputs["interpreter"] ?? ["/bin/sh", "-c"]) as string[];
    const folder = textOf(inputs, "dir");
    const args = folder === "" ? [...first, command] : ["-c", 'cd "$0" && exec "$@"', folder, file, ...first, command];
    const env = { ...environment, ...environmentOf(inputs, last) };
    const { code, stdout, stderr } = await run(folder === "" ? file : "/bin/sh", args, { env, input: textOf(inputs, "stdin") });
    return { code: code ?? 1, stdout, stderr };
  };

const remotely =
  (hosts: AnswerRemote): Runner =>
  async (step, command, inputs, last) => {
    const connection = inputs["connection"] as Properties;
    const environment = environmentOf(inputs, last);
    const {
      code = 0,
      stdout = "",
      stderr = "",
    } = await hosts({ step, connection, command, stdin: textOf(inputs, "stdin"), environment });
    return { code, stdout, stderr };
  };

function commandKind(runner: Runner): ResourceKind {
  const outputsOf = async (step: RemoteCommand["step"], inputs: Properties, last: Properties): Promise<Properties> => {
    const command = step === "update" ? textOf(inputs, "update") || textOf(inputs, "create") : textOf(inputs, step);
    if (command === "") return { stdout: "", stderr: "" };
    const { code, stdout, stderr } = await runner(step, command, inputs, last);
    if (code !== 0) throw new Error(`Process exited with status ${code}: running "${command}":\n${stdout}${stderr}`);
    return { stdout: stdout.replace(/\n$/, ""), stderr: stderr.replace(/\n$/, "") };
  };
  return {
    replacedBy: ["triggers"],
    unknownWhenChanged: true,
    create: async (inputs): Promise<Made> => ({
      id: `command${randomBytes(4).toString("hex")}`,
      outputs: await outputsOf("create", inputs, {}),
    }),
    update: (_id, inputs, old) => outputsOf("update", inputs, old.outputs),
    async delete(_id, outputs) {
      await outputsOf("delete", outputs, outputs);
    },
  };
}

/** `hosts` answers for every remote command; `environment` is what local ones have, as the provider gets it from `pulumi`. */
export function commandDouble(
  version: string,
  hosts: AnswerRemote,
  environment: Readonly<Record<string, string>>,
): ProviderDouble {
  const kinds: Record<string, ResourceKind> = {
    "command:local:Command": commandKind(locally(environment)),
    "command:remote:Command": commandKind(remotely(hosts)),
  };
  return { name: "command", version, kind: (type) => kinds[type] };
}
