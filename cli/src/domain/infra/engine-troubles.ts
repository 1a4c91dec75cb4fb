import { cutOffSteps } from "./cut-off.js";
import { protectionTroubles } from "./protection-troubles.js";
import { inFolder, refused, type Doing, type Rule } from "./trouble.js";

/** The commands that put a plugin where Pulumi finds it, with and without the internet. */
function pluginSteps(kind: string, name: string, version: string, { platform, again }: Doing): readonly string[] {
  const file = `pulumi-${kind}-${name}-v${version}-${platform}.tar.gz`;
  return [
    `pulumi plugin install ${kind} ${name} v${version}`,
    `without internet, with a file of github.com/pulumi/pulumi-${name}/releases: pulumi plugin install ${kind} ${name} v${version} --file ${file}`,
    again,
  ];
}

/** A plugin that is older than the program asks: Pulumi only warns of it, and goes on with it. */
const oldPlugin = /resource plugin ([\w-]+) is expected to have version >=\s*v?([\w.+-]+), but has v?([\w+-]+(?:\.[\w+-]+)*)?/;

/** What to say of one, with the command that puts the right one there; null for any other text. */
export function oldPluginText(message: string): string | null {
  const [, name, wanted, has] = oldPlugin.exec(message) ?? [];
  if (name === undefined || wanted === undefined) return null;
  return `pulumi plugin install resource ${name} v${wanted}   # the plugin is ${has ?? "of no version"}, the program needs ${wanted} or newer`;
}

/** Pulumi's own troubles, by what it prints. */
export const engineTroubles: readonly Rule[] = [
  {
    pattern:
      /(?:no|install) resource plugin 'pulumi-resource-([\w-]+)'(?: found in the workspace)?(?: at version v([\w.+-]*[\w+]))?/,
    words: ([, name = "", version], doing) =>
      version === undefined
        ? refused(`Pulumi's plugin ${name} is not installed`, "the program needs it", [
            inFolder(doing, "pulumi install"),
            doing.again,
          ])
        : refused(
            `Pulumi's plugin ${name} ${version} is not installed`,
            "the program needs exactly this version",
            pluginSteps("resource", name, version, doing),
          ),
  },
  {
    pattern: /failed to load language plugin (\w+)|no language plugin 'pulumi-language-(\w+)'/,
    words: ([, first, second], { again }) =>
      refused(
        `Pulumi's language host for ${first ?? second ?? "nodejs"} is not there`,
        "it comes with Pulumi and has to lie beside the pulumi program, or on PATH",
        [
          "command -v pulumi   # then look for pulumi-language-nodejs in the same folder",
          "install Pulumi again: https://www.pulumi.com/docs/install/",
          again,
        ],
      ),
  },
  {
    pattern: /Pulumi SDK has not been installed|Cannot find (?:package|module) '(?:@pulumi\/|tsx)/,
    words: (_, doing) =>
      refused("what the program of the infrastructure needs is not installed", "Pulumi's SDKs are not in node_modules", [
        inFolder(doing, "npm ci"),
        doing.again,
      ]),
  },
  {
    pattern: /the stack is currently locked by \d+ lock\(s\)[^\n]*((?:\n[^\n]*created by[^\n]*)*)/,
    words: ([, lines = ""], doing) => {
      const [, who, at] = /created by (.+?) at (\S+)/.exec(lines) ?? [];
      return refused(
        `the stack ${doing.stack} is locked`,
        who === undefined ? "another change is under way, or was killed" : `by ${who} since ${at ?? "then"}`,
        [
          "wait, when that change is still under way",
          `when it was killed: ${inFolder(doing, `pulumi cancel --yes --stack ${doing.stack}`)}`,
          doing.again,
        ],
      );
    },
  },
  {
    pattern: /passphrase must be set with PULUMI_CONFIG_PASSPHRASE/,
    words: (_, { stack, again }) =>
      refused(
        `the passphrase of the stack ${stack} is not given`,
        "it protects the secrets in the stack's state, and gpuctl keeps no copy",
        [
          "export PULUMI_CONFIG_PASSPHRASE_FILE=~/.config/gpuctl/passphrase   # a file that only you can read",
          "or export PULUMI_CONFIG_PASSPHRASE=...",
          `for a new stack: (umask 077; mkdir -p ~/.config/gpuctl; openssl rand -base64 32 > ~/.config/gpuctl/passphrase)   # and keep a copy`,
          again,
        ],
      ),
  },
  {
    pattern: /incorrect passphrase/,
    words: (_, doing) =>
      refused(`the passphrase is not that of the stack ${doing.stack}`, "the secrets in its state cannot be read with it", [
        "look for the one that it was made with: PULUMI_CONFIG_PASSPHRASE, PULUMI_CONFIG_PASSPHRASE_FILE",
        "when it is lost, so are the secrets of the stack; what was made goes on running. Give new secrets to a new stack:",
        inFolder(
          doing,
          `pulumi stack export --stack ${doing.stack} > ${doing.stack}.json   # ids of all that was made, for pulumi import`,
        ),
      ]),
  },
  {
    pattern: /no stack named '([^']+)' found/,
    words: ([, name = ""], doing) =>
      refused(`there is no stack ${name} in ${doing.backend}`, "nothing was made under this name, or its state is elsewhere", [
        `gpuctl infra up --stack ${name}   # makes it`,
        inFolder(doing, "pulumi stack ls --all"),
        "or name where the state is: infra: { backend: ... } in gpuctl.yaml, or PULUMI_BACKEND_URL",
      ]),
  },
  {
    pattern: /no Pulumi\.yaml project file found|if you're using the --stack flag, pass the fully qualified name/,
    words: (_, { directory }) =>
      refused(`there is no Pulumi.yaml in ${directory} or above`, "gpuctl infra runs the Pulumi program that lies there", [
        "infra: { directory: PATH }   # in gpuctl.yaml: the folder of the Pulumi project",
      ]),
  },
  {
    pattern: /PULUMI_ACCESS_TOKEN must be set|invalid access token|Unauthorized: No credentials/i,
    words: (_, { backend, again }) =>
      refused(`${backend} asks who you are`, "there is no login for it on this machine", [
        "pulumi login",
        "or export PULUMI_ACCESS_TOKEN=...",
        again,
      ]),
  },
  {
    pattern: /unable to open bucket \S+: (.*)|could not (?:list|open) bucket: (.*)/,
    words: ([, first, second], { backend, again }) => ({
      kind: "unreachable",
      message: `the state in ${backend} cannot be reached`,
      because: (first ?? second ?? "").trim() || "Pulumi could not open it",
      nextSteps: ["infra: { backend: ... } in gpuctl.yaml, or PULUMI_BACKEND_URL, names where it is", again],
    }),
  },
  ...protectionTroubles,
  {
    pattern: /the stack has \d+ pending operations?|pending operations/i,
    words: (_, doing) =>
      refused("Pulumi was killed in the middle of a change", "what became of some resources is not in the state", [
        ...cutOffSteps(doing),
        doing.again,
      ]),
  },
];
