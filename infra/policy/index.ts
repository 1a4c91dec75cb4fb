/** Policy pack: `pulumi preview --policy-pack infra/policy`. The checks are pure functions; this file only hands them resources. */
import { PolicyPack, type ResourceValidationArgs, type ResourceValidationPolicy } from "@pulumi/policy";
import { gpuPodsWithoutLimits, openSsh, tokensInUserData, unprotected, type PlannedResource } from "./checks.js";

const planned = ({ type, props, opts }: ResourceValidationArgs): PlannedResource => ({
  type,
  props: props as Record<string, unknown>,
  protect: opts.protect,
});

function policy(name: string, description: string, check: (resource: PlannedResource) => string[]): ResourceValidationPolicy {
  return {
    name,
    description,
    enforcementLevel: "mandatory",
    validateResource: (args, report) => {
      for (const finding of check(planned(args))) report(finding);
    },
  };
}

new PolicyPack("gpuctl", {
  policies: [
    {
      name: "no-open-ssh",
      description: "SSH is reached from the networks of the operators only.",
      enforcementLevel: "mandatory",
      configSchema: {
        properties: {
          allow: { type: "array", items: { type: "string" }, default: [], description: "Networks that may be open" },
        },
      },
      validateResource: (args, report) => {
        const { allow } = args.getConfig<{ allow?: string[] }>();
        for (const finding of openSsh(planned(args), allow ?? [])) report(finding);
      },
    },
    policy("no-secret-in-user-data", "User data holds no token, password or lasting key.", tokensInUserData),
    policy("protected-data", "Volumes and addresses are protected against deletion.", unprotected),
    policy(
      "gpu-pods-carry-limits",
      "Pods with a GPU have limits for GPU and memory; those of Helm charts are not looked into.",
      gpuPodsWithoutLimits,
    ),
  ],
});
