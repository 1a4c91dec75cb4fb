/** Property values as Pulumi's engine and its providers exchange them: secrets and outputs are marked objects, unknowns a fixed text. */
import struct from "google-protobuf/google/protobuf/struct_pb.js";

export type Properties = Record<string, unknown>;

const signature = "4dabf18193072939515e22adb298388d";
const secretMark = "1b47061264138c4ac30d75fd1eb44270";
const outputMark = "d0e6a833031e9bbcd3f4e8bde6ca49a4";

/** What stands for a value that a preview cannot know. */
const unknownValue = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

const isObject = (value: unknown): value is Properties => typeof value === "object" && value !== null && !Array.isArray(value);

/** The same without the marks; keys in order, so that texts of it can be compared. */
export function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!isObject(value)) return value;
  if (value[signature] === secretMark) return plain(value["value"]);
  if (value[signature] === outputMark) return "value" in value ? plain(value["value"]) : unknownValue;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, plain(value[key])]));
}

export const plainProperties = (properties: Properties): Properties => plain(properties) as Properties;

/** For the wire. `Struct` refuses undefined, which JSON drops. */
export const toStruct = (properties: Properties): struct.Struct =>
  struct.Struct.fromJavaScript(JSON.parse(JSON.stringify(properties)) as Record<string, struct.JavaScriptValue>);

export const fromStruct = (value: struct.Struct | undefined): Properties => value?.toJavaScript() ?? {};
