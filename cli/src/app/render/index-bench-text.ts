import type { IndexBenchResult, IndexCrossover } from "../index-bench.js";

/** A table with recall beside every rate, then who wins from which size, then what it was measured with. */
export function indexBenchText(result: IndexBenchResult): string {
  const header = ["vectors", "type", "device", "batch", "recall", "queries/s", "p50 ms", "p99 ms", "build s", "B/vector"];
  const rows = result.rows.map((row) => [
    size(row.vectors),
    row.type,
    row.device,
    String(row.batch),
    row.recall.toFixed(4),
    row.qps.toFixed(row.qps < 100 ? 1 : 0),
    row.p50.toFixed(2),
    row.p99?.toFixed(2) ?? "n/a",
    row.buildSeconds.toFixed(1),
    row.bytesAVector.toFixed(0),
  ]);
  const { machine, data } = result;
  return [
    ...table([header, ...rows]),
    "",
    ...result.crossovers.flatMap((one) => verdicts(one, result.gpu)),
    ...result.leftOut.map(({ vectors, because }) => `${size(vectors)} vectors left out: ${because}`),
    `${data.kind} data, ${String(data.dimension)} dimensions, k ${String(data.k)}, ${String(data.queries)} held-out queries, seed ${String(data.seed)}; recall on your data differs`,
    `${machine.cpu}, ${String(machine.threads)} threads, FAISS ${machine.faiss}, load ${machine.load1.toFixed(1)}, peak ${String(Math.round(machine.peakBytes / 1048576))} MiB`,
  ].join("\n");
}

function verdicts(one: IndexCrossover, noGpu: string | null): string[] {
  const batch = `batch ${String(one.batch)}`.padEnd(9);
  const lists =
    one.approximateBeatsFlatFrom === null
      ? "exact search wins at every size measured"
      : `inverted lists win from ${size(one.approximateBeatsFlatFrom)} vectors on (recall 0.95 or better)`;
  if (!one.gpuMeasured) return [`${batch} ${lists}; GPU not measured: ${noGpu ?? "none of the sizes fitted"}`];
  const cpuWins = one.fastest.filter(({ device }) => device === "cpu").map(({ vectors }) => size(vectors));
  const gpu =
    one.gpuBeatsCpuFrom === null
      ? "the CPU wins at every size measured"
      : `the GPU wins from ${size(one.gpuBeatsCpuFrom)} vectors on${cpuWins.length === 0 ? "" : `, the CPU at ${cpuWins.join(", ")}`}`;
  return [`${batch} ${lists}; ${gpu}`];
}

function size(count: number): string {
  if (count % 1_000_000 === 0) return `${String(count / 1_000_000)}M`;
  return count % 1000 === 0 ? `${String(count / 1000)}K` : String(count);
}

/** Words to the left, figures to the right. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) =>
        column === 1 || column === 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join("  ")
      .trimEnd(),
  );
}
