import { cloudInit } from "../../../infra/lib/cloud-init.js";
import { hostValuesFile } from "../../../infra/lib/host-values.js";
import { hostScript } from "../../../infra/scripts.js";
import { privateKey } from "./stack-under-mocks.js";

/** User data of a server as the program renders it, with a one-time key that is always the same. */
export function exampleUserData(): string {
  const operators = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJq1HeTqYxFBrnAFPqO8rJr4bJYDLTwsLLk5mQ9LeFxg operator: "it\'s me"'];
  return cloudInit({
    script: hostScript(),
    values: hostValuesFile({
      gpu: "none",
      deployUser: "gpuctl",
      authorizedKeys: operators,
      servicePorts: [8001, 8002, 8003],
      app: ["10.20.0.0/16"],
      operators: ["198.51.100.7/32"],
      revision: "1",
      mirrors: { docker: null, toolkit: null, driver: null },
    }),
    firstKey: { privateKey: `${privateKey}\n`, publicKey: "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY" },
    operators,
  });
}
