import { readFileSync } from "node:fs";
import { sha256, type Script } from "./lib/remote-program.js";

type RemoteName =
  | "first-contact"
  | "forget-first-key"
  | "join-k3s"
  | "k3s-is-ours"
  | "leave-k3s"
  | "mount-volume"
  | "operators"
  | "preflight"
  | "prepare"
  | "remove-host"
  | "verify"
  | "vswitch-down"
  | "vswitch-up";

/** A script of `infra/remote`, run on hosts by `bash -s`. */
export const remoteScript = (name: RemoteName): string => readFileSync(new URL(`remote/${name}.sh`, import.meta.url), "utf8");

/** The one script that prepares hosts, for cloud-init and SSH alike. */
export function hostScript(): Script {
  const text = readFileSync(new URL("host/prepare-host.sh", import.meta.url), "utf8");
  return { text, sha256: sha256(text) };
}
