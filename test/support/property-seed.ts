import fc from "fast-check";

/**
 * What decides whether a change may land says the same of it twice: properties are tried with the same worlds each time. Other worlds are
 * for the long tests, which find what these did not have; what they find becomes a test of its own.
 */
const seed = process.env["GPUCTL_TEST_SEED"];
fc.configureGlobal({ seed: Number(seed ?? 20_261_122) });
