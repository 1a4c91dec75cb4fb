import { UsageError } from "../errors.js";

/** The two kinds of the services' image. */
export const imageDevices = ["cpu", "cuda"] as const;
export type ImageDevice = (typeof imageDevices)[number];

/** What the Dockerfile is given beside what gpuctl itself decides. */
export interface BuildInputs {
  /** By name. */
  args: Readonly<Record<string, BuildArgument>>;
  /** Files that the build sees and the image does not: id -> path on this machine. */
  secrets: Readonly<Record<string, string>>;
}

export interface BuildArgument {
  value: string;
  /** Came from the environment of this process, and goes to Docker the same way: its value appears in no list of processes. */
  inherited: boolean;
}

/** What the base image is when nobody names another: the default of the Dockerfile. */
export const defaultBaseImage = "python:3.13-slim-trixie";

/** Arguments that change what is in the image. */
const ofContents = ["BASE_IMAGE", "SOURCE_DATE_EPOCH"];
/** Arguments that say from where the same bytes come; every package is checked by its hash. */
const ofPlaces = ["PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"];
const ofGpuctl = ["DEVICE", "VERSION", "REVISION", "CREATED"];
const secretIds = ["pip_conf", "ca"];

/**
 * `--build-arg NAME=VALUE` and `--secret id=ID,src=FILE` as people know them from Docker. A name without a value takes it from `env`.
 * Throws UsageError for what the Dockerfile would ignore, and for a password that would end up in the image's history.
 */
export function buildInputs(
  args: readonly string[],
  secrets: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): BuildInputs {
  return {
    args: Object.fromEntries(args.map((text) => buildArgument(text, env))),
    secrets: Object.fromEntries(secrets.map(buildSecret)),
  };
}

function buildArgument(text: string, env: Readonly<Record<string, string | undefined>>): [string, BuildArgument] {
  const at = text.indexOf("=");
  const name = at < 0 ? text : text.slice(0, at);
  requireKnown(name);
  const value = at < 0 ? env[name] : text.slice(at + 1);
  if (value === undefined) {
    throw new UsageError(`--build-arg ${name} has no value`, {
      because: `the environment has no variable ${name}`,
      nextSteps: [`--build-arg ${name}=VALUE`],
    });
  }
  if (name === "PIP_INDEX_URL" && /^[a-z]+:\/\/[^/]*@/i.test(value)) {
    throw new UsageError("the address of the package index has a password in it", {
      because: "build arguments stay in the image's history, where everybody reads them who pulls it",
      nextSteps: ["write it into a pip.conf and give that: --secret id=pip_conf,src=pip.conf"],
    });
  }
  return [name, { value, inherited: at < 0 }];
}

function requireKnown(name: string): void {
  if ([...ofContents, ...ofPlaces].includes(name.toUpperCase()) && (name === name.toUpperCase() || isProxy(name))) return;
  const because = ofGpuctl.includes(name)
    ? "gpuctl itself decides what it is"
    : `the services' Dockerfile has no such argument; it has ${[...ofContents, ...ofPlaces].join(", ")}`;
  const next = name === "DEVICE" ? "--device cpu|cuda" : "gpuctl images build --help";
  throw new UsageError(`--build-arg ${name} cannot be given`, { because, nextSteps: [next] });
}

/** Proxies are the only arguments that have lower-case names too. */
const isProxy = (name: string): boolean => /_proxy$/i.test(name);

function buildSecret(text: string): [string, string] {
  const parts = new Map(text.split(",").map((part) => [part.split("=")[0], part.slice(part.indexOf("=") + 1)] as const));
  const [id = "", source = ""] = [parts.get("id"), parts.get("src") ?? parts.get("source")];
  if (secretIds.includes(id) && source !== "") return [id, source];
  throw new UsageError(`--secret ${text} is none that the services' Dockerfile knows`, {
    because: "it takes a pip.conf, and the certificate of a package index",
    nextSteps: ["--secret id=pip_conf,src=pip.conf", "--secret id=ca,src=ca.pem"],
  });
}

/** Arguments that count for the contents, without the hosts in them. */
export function countedArguments({ args }: BuildInputs): Readonly<Record<string, string>> {
  const base = args["BASE_IMAGE"]?.value ?? defaultBaseImage;
  const epoch = args["SOURCE_DATE_EPOCH"]?.value ?? "0";
  return { BASE_IMAGE: withoutHost(base), SOURCE_DATE_EPOCH: epoch };
}

/** `mirror.example:5000/library/python:3.13` is `python:3.13`: the same image from another place. */
function withoutHost(reference: string): string {
  const [first = "", ...rest] = reference.split("/");
  const isHost = rest.length > 0 && (/[.:]/.test(first) || first === "localhost");
  return (isHost ? rest.join("/") : reference).replace(/^library\//, "");
}
