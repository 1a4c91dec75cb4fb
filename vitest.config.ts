import { defineConfig } from "vitest/config";

/** Tests that start processes are slower on a shared machine than at a desk; each still has an end. */
const patient = { testTimeout: 180_000, hookTimeout: 180_000 };

export default defineConfig({
  test: {
    // oclif writes to the real streams; with the interception on, captured stdout would be empty.
    disableConsoleIntercept: true,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/{unit,property,golden,contract}/**/*.test.ts"],
          testTimeout: 20_000,
          setupFiles: ["test/support/clean-process.ts", "test/support/property-seed.ts"],
        },
      },
      // Worlds that nobody tried before, twenty times: a step of `npm run test:long`.
      ...Array.from({ length: 20 }, (_, pass) => ({
        extends: true as const,
        test: {
          name: `properties-${pass + 1}`,
          include: ["test/property/**/*.test.ts"],
          // Walked through from end to end, without chance.
          exclude: ["test/property/{lifecycle-faults,lease-processes}.test.ts"],
          testTimeout: 60_000,
          setupFiles: ["test/support/clean-process.ts", "test/support/property-seed.ts"],
          env: { GPUCTL_TEST_SEED: String(Math.trunc(Math.random() * 2 ** 31)) },
        },
      })),
      {
        extends: true,
        // One file at a time: each starts a keeper and services with a real model, and the machine may have two cores.
        test: { name: "e2e", include: ["test/e2e/**/*.test.ts"], fileParallelism: false, ...patient },
      },
      {
        extends: true,
        // Needs root and Debian packages; run by .ci/run.
        test: { name: "root", include: ["test/e2e-root/**/*.test.ts"], fileParallelism: false, ...patient },
      },
      {
        extends: true,
        // Needs root: hosts with sshd and Docker in namespaces of their own (test/support/bed). Run by .ci/run.
        test: { name: "docker", include: ["test/e2e-docker/**/*.test.ts"], fileParallelism: false, ...patient },
      },
      {
        extends: true,
        // Infrastructure programs under the real Pulumi engine, and hosts that are prepared: needs root. Run by .ci/run.
        test: { name: "infra", include: ["test/e2e-infra/**/*.test.ts"], fileParallelism: false, ...patient },
      },
      {
        extends: true,
        // The same for what takes longer than a run of CI may: a step of `npm run test:long`.
        test: { name: "docker-long", include: ["test/e2e-docker-long/**/*.test.ts"], fileParallelism: false, ...patient },
      },
      {
        extends: true,
        // Every refusal and every interruption of the preparation of hosts: a step of `npm run test:long`.
        test: { name: "infra-long", include: ["test/e2e-infra-long/**/*.test.ts"], fileParallelism: false, ...patient },
      },
    ],
  },
});
