/**
 * Wheels that misbehave: the real wheel with an engine of `compose/services/tests/faults` in place of its own (which stays
 * beside it as `<name>_real.py`), as tests/faults/package.py does for the Python tests. No setting of a real wheel can do this.
 */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./sandbox.js";

const script = `
import json, sys, zipfile, pathlib
source, target, faults, replaced, edit = sys.argv[1:6]
by = {"gpuctl_serving/engines/" + name: pathlib.Path(faults, file) for name, file in json.loads(replaced).items()}
with zipfile.ZipFile(source) as real, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
    for item in real.infolist():
        if item.filename in by:
            out.writestr(item.filename.replace(".py", "_real.py"), real.read(item))
        else:
            out.writestr(item, real.read(item))
    for name, file in by.items():
        out.writestr(name, file.read_bytes())
    if edit:
        out.writestr("gpuctl_serving/edited_by_a_test.txt", edit)
`;

/** Module of the engines' package -> file of the faults. */
const faultyCpu = { "faulty.py": "faulty.py", "onnx_cpu.py": "onnx_cpu_faulty.py" };
const stubGpu = { "torch_cuda.py": "torch_cuda_stub.py", "presence.py": "presence_with_gpu.py" };

/** The wheel this checkout would deploy. */
export function currentWheel(): string {
  const folder = join(repository, "dist/python");
  const name = readdirSync(folder).find((file) => file.endsWith(".whl"));
  if (name === undefined) throw new Error("no wheel in dist/python: run npm run build");
  return join(folder, name);
}

function rewrite(directory: string, name: string, replaced: Record<string, string>, edit: string): string {
  const target = join(directory, `gpuctl_serving-0.1.0+${name}-py3-none-any.whl`);
  const faults = join(repository, "compose/services/tests/faults");
  execFileSync("python3", ["-c", script, currentWheel(), target, faults, JSON.stringify(replaced), edit]);
  return target;
}

/**
 * Writes a faulty wheel into a folder; deploy it with `GPUCTL_WHEEL`, and choose the CPU engine's fault with `FAULTY_ENGINE`.
 * With `gpu` its services believe in a GPU that computes on the CPU; its fault is `FAULTY_CUDA`.
 */
export function faultyWheel(directory: string, options: { gpu?: boolean } = {}): string {
  const name = options.gpu === true ? "stubgpu" : "faulty";
  return rewrite(directory, name, options.gpu === true ? { ...faultyCpu, ...stubGpu } : faultyCpu, "");
}

/** A wheel that behaves the same but has another hash: a code change. */
export function changedWheel(directory: string, mark: string): string {
  return rewrite(directory, mark, {}, mark);
}
