import { cloudInit } from "../../../infra/lib/cloud-init.js";
import type { HostValues } from "../../../cli/src/domain/host/values.js";
import { hostScript } from "../../../infra/scripts.js";
import { privateKey } from "./stack-under-mocks.js";

/** What a cloud server is told that nobody logs in to. */
export const exampleValues: HostValues = {
  gpu: "none",
  deployUser: "gpuctl",
  authorizedKeys: [],
  servicePorts: [8001, 8002, 8003],
  appAddresses: ["10.20.0.0/16"],
  sshAddresses: [],
  reboot: false,
  revision: "1",
  repositories: {},
};

/** User data of a server as the program renders it, with a one-time key that is always the same. */
export function exampleUserData(): string {
  const operators = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJq1HeTqYxFBrnAFPqO8rJr4bJYDLTwsLLk5mQ9LeFxg operator: "it\'s me"'];
  return cloudInit({
    script: hostScript(),
    values: { ...exampleValues, authorizedKeys: operators },
    firstKey: { privateKey: `${privateKey}\n`, publicKey: "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY" },
    operators,
  });
}
