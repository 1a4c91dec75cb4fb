/**
 * A wheel whose CPU engine misbehaves: the real wheel, with `engines/onnx_cpu.py` replaced by the test engine of
 * `compose/services/tests/faults` and the original beside it as `onnx_cpu_real.py`. No setting of a real wheel can do this.
 */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./sandbox.js";

const script = `
import sys, zipfile, pathlib
source, target, faulty, edit = sys.argv[1:5]
with zipfile.ZipFile(source) as real, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
    for item in real.infolist():
        data = real.read(item)
        if faulty and item.filename.endswith("engines/onnx_cpu.py"):
            out.writestr(item.filename.replace("onnx_cpu.py", "onnx_cpu_real.py"), data)
            data = pathlib.Path(faulty).read_bytes()
        out.writestr(item, data)
    if edit:
        out.writestr("gpuctl_serving/edited_by_a_test.txt", edit)
`;

/** The wheel this checkout would deploy. */
export function currentWheel(): string {
  const folder = join(repository, "dist/python");
  const name = readdirSync(folder).find((file) => file.endsWith(".whl"));
  if (name === undefined) throw new Error("no wheel in dist/python: run npm run build");
  return join(folder, name);
}

function rewrite(directory: string, name: string, faulty: string, edit: string): string {
  const target = join(directory, `gpuctl_serving-0.1.0+${name}-py3-none-any.whl`);
  execFileSync("python3", ["-c", script, currentWheel(), target, faulty, edit]);
  return target;
}

/** Writes the faulty wheel into a folder; deploy it with `GPUCTL_WHEEL`, and choose the fault with the engine's own variable. */
export function faultyWheel(directory: string): string {
  return rewrite(directory, "faulty", join(repository, "compose/services/tests/faults/onnx_cpu_faulty.py"), "");
}

/** A wheel that behaves the same but has another hash: a code change. */
export function changedWheel(directory: string, mark: string): string {
  return rewrite(directory, mark, "", mark);
}
