/** The steps of `npm run test:long`: what takes minutes or gigabytes. Writes nothing but with `--record`. */
import { globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { basename, join } from "node:path";
import { root, say } from "./run.mjs";
import { pytestStep, runSteps, vitestStep } from "./steps.mjs";

const measurements = join(root, "docs/measurements");

/**
 * @param {import("./steps.mjs").Tools & { long: () => Promise<string> }} tools `long` makes the Python that has PyTorch
 * @param {readonly string[]} args names of steps, and `--record` to keep the result under docs/measurements
 * @returns {Promise<number>} exit code
 */
export function runLong(tools, args) {
  const wanted = args.filter((argument) => argument !== "--record");
  const record = args.includes("--record");
  return runSteps(
    "npm run test:long",
    (scratch) => stepsOf(tools, scratch),
    tools,
    wanted,
    (outcomes, scratch) => {
      const figures = readFigures(scratch);
      for (const [name, value] of Object.entries(figures)) say(`${name}: ${JSON.stringify(value)}`);
      if (record) say(`wrote ${writeResult(outcomes, figures)}`);
    },
  );
}

/** A test leaves its figures as `<name>.json` in the folder that GPUCTL_TEST_FIGURES names. */
const figuresIn = (scratch) => join(scratch, "figures");

/** pytest's arguments for the properties alone, with other worlds than `npm test` has. */
const worldsNobodyTried = ["-m", "hypothesis", "--hypothesis-profile=default"];

/** Each folder of compose/services/tests_long is a step, and so are the hosts with everything that befalls them. */
function stepsOf({ long, node, development }, scratch) {
  mkdirSync(figuresIn(scratch), { recursive: true });
  const env = { GPUCTL_TEST_FIGURES: figuresIn(scratch) };
  const folders = globSync("compose/services/tests_long/*/", { cwd: root }).map((path) => basename(path));
  const python = folders
    .filter((name) => !name.startsWith("_"))
    .toSorted()
    .map((name) => ({ ...pytestStep(name, long, join(scratch, `${name}.xml`), `tests_long/${name}`), env }));
  // The last two need root; the first of them takes an hour on two cores, the second six minutes.
  return [
    ...python,
    vitestStep("properties", node, scratch, "properties-*"),
    pytestStep("properties-python", development, join(scratch, "properties-python.xml"), ...worldsNobodyTried),
    { ...vitestStep("hosts", node, scratch, "docker-long"), needsModels: true, env },
    { ...vitestStep("infra-long", node, scratch), env },
  ];
}

function readFigures(scratch) {
  const files = globSync("*.json", { cwd: figuresIn(scratch) }).toSorted();
  return Object.fromEntries(
    files.map((file) => [basename(file, ".json"), JSON.parse(readFileSync(join(figuresIn(scratch), file), "utf8"))]),
  );
}

function writeResult(outcomes, figures) {
  const date = new Date().toISOString().slice(0, 10);
  const name = `${date}-long.md`;
  const machine = `${String(cpus().length)} x ${cpus()[0]?.model ?? "unknown"}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}`;
  const rows = outcomes.map((o) => `| ${o.name} | ${String(o.passed)} | ${String(o.failed)} | ${o.seconds.toFixed(0)} |`);
  const text = [
    `# Long tests, ${date}`,
    "",
    `\`npm run test:long -- --record\` on ${machine}.`,
    "",
    "| step | passed | failed | seconds |",
    "| --- | --- | --- | --- |",
    ...rows,
    "",
    "```json",
    JSON.stringify(figures, null, 2),
    "```",
    "",
  ];
  mkdirSync(measurements, { recursive: true });
  writeFileSync(join(measurements, name), text.join("\n"));
  return `docs/measurements/${name}`;
}
