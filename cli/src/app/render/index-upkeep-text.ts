import type { IndexFacts } from "../index-upkeep.js";
import { blocks, section, table } from "./table.js";

type Fields = Readonly<Record<string, unknown>>;

const fields = (value: unknown): Fields => (typeof value === "object" && value !== null ? (value as Fields) : {});
const count = (value: unknown): string => (typeof value === "number" ? value.toLocaleString("en-US") : "-");
const word = (value: unknown): string => (typeof value === "string" && value !== "" ? value : "-");
const size = (value: unknown): string => (typeof value === "number" ? `${(value / 1048576).toFixed(1)} MiB` : "-");

/** What the index holds, how it searches, and what an acknowledgement rests on. */
export function indexStatsText(stats: IndexFacts): string {
  const bytes = fields(stats["bytes"]);
  const durability = fields(stats["durability"]);
  const snapshot = fields(durability["snapshot"]);
  const gpu = fields(stats["gpu"]);
  const rows = Object.entries(fields(stats["namespaces"])).map(([name, items]) => row(name, items, fields(stats["indexes"])));
  const why = gpu["inUse"] === true ? "" : ` (no GPU: ${word(gpu["reason"])})`;
  const age =
    typeof snapshot["ageSeconds"] === "number"
      ? `snapshot of ${count(snapshot["items"])} items, ${String(Math.round(snapshot["ageSeconds"]))} s old`
      : "no snapshot yet";
  const recovery = fields(durability["recovery"]);
  return blocks(
    [
      `${count(stats["items"])} items, ${count(stats["vectors"])} vectors of ${count(stats["dimension"])} dimensions, searched on ${word(stats["device"])}${why}`,
      `Model: ${word(stats["generation"])}`,
      `Memory ${size(bytes["memory"])}, database ${size(bytes["database"])}, log ${size(durability["logBytes"])}`,
      `Durability: fsync ${word(durability["fsync"])}, ${word(durability["state"])}, ${age}`,
    ].join("\n"),
    rows.length === 0 ? "" : table(["namespace", "items", "type", "recall", "nprobe", "why not another"], rows),
    section("At its last start", happened(recovery)),
  );
}

function row(name: string, items: unknown, indexes: Fields): readonly string[] {
  const index = fields(indexes[name]);
  const recall = index["recallProbe"];
  return [
    name,
    count(items),
    word(index["type"]),
    typeof recall === "number" ? recall.toFixed(3) : "-",
    typeof index["nprobe"] === "number" ? String(index["nprobe"]) : "all",
    word(index["reason"]),
  ];
}

/** Whatever the report of the start says beyond zeros and nothing. */
function happened(recovery: Fields): string[] {
  return Object.entries(recovery).flatMap(([name, value]) => {
    if (Array.isArray(value)) return value.map(String);
    return typeof value === "string" && value !== "" ? [`${name}: ${value}`] : [];
  });
}

/** `name  value` lines of a small result, its keys as words; that it went well needs none, for else there is an error. */
export function factsText(facts: IndexFacts): string {
  const lines = Object.entries(facts).flatMap(([key, value]) => {
    if (key === "ok") return [];
    const name = key.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    if (typeof value === "number") return [[name, key.startsWith("bytes") ? size(value) : count(value)] as const];
    if (typeof value === "boolean") return [[name, value ? "yes" : "no"] as const];
    return typeof value === "string" ? [[name, value] as const] : [];
  });
  const width = Math.max(0, ...lines.map(([name]) => name.length));
  return lines.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
}
