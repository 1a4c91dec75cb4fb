import type { Answers } from "./answers.js";
import { seen, unseen, type Container, type Engine, type NodeDocker, type Published, type Room, type Seen } from "./facts.js";
import { at, parseJson, textAt, textsAt } from "./json-value.js";
import { lastLine, lines, readRoom, stdoutOf } from "./read-machine.js";

/** The engine as the preflight script found it. */
export function readNodeDocker(answers: Answers): NodeDocker {
  const access = answers.of("docker-access");
  if (access.state === "missing") return { state: "unreachable", because: access.because, hangs: false };
  const hangs = { state: "unreachable", because: "the engine did not answer within 10 s", hangs: true } as const;
  if (access.state === "hangs") return hangs;
  if (access.code === 127) return { state: "absent" };
  const [as = "", ...said] = access.stdout.split("\n");
  if (access.code !== 0) {
    const because = lastLine(said.join("\n")) || `docker version ended with status ${access.code}`;
    return /permission denied/i.test(because) ? { state: "refuses", because } : { state: "unreachable", because, hangs: false };
  }
  return readEngine(answers, as === "sudo" ? "sudo" : "user", lastLine(said.join("\n")));
}

function readEngine(answers: Answers, as: Engine["as"], server: string): NodeDocker {
  const versions = printedJson(answers, "docker-version");
  const info = printedJson(answers, "docker-info");
  const path = stdoutOf(answers.of("docker-path"), "docker");
  const folder = textAt(info, "DockerRootDir") ?? "";
  const drivers = at(info, "DriverStatus");
  const containerdStore = JSON.stringify(drivers ?? "").includes("io.containerd.snapshotter");
  const liveRestore = at(info, "LiveRestoreEnabled");
  const runtimes = at(info, "Runtimes");
  return {
    state: "reachable",
    as,
    client: textAt(versions, "Client", "Version") ?? "of unknown version",
    server: textAt(versions, "Server", "Version") ?? server,
    apiVersion: textAt(versions, "Server", "ApiVersion"),
    snap: folder.startsWith("/var/snap/") || (path.seen && /\/snap(?:\/|$)/m.test(path.value)),
    rootless: textsAt(info, "SecurityOptions").some((option) => option.startsWith("name=rootless")),
    storageDriver: textAt(info, "Driver"),
    containerdStore,
    cdi: readCdi(answers, info),
    cdiDevices: readDevices(info),
    cdiErrors: textsAt(info, "Warnings").flatMap((warning) => /^CDI: (.*)/s.exec(warning)?.[1] ?? []),
    runtimes: typeof runtimes === "object" && runtimes !== null ? Object.keys(runtimes) : [],
    liveRestore: typeof liveRestore === "boolean" ? liveRestore : null,
    compose: readCompose(answers),
    disk: readDockerDisk(answers, containerdStore),
    containers: readContainers(answers),
  };
}

function printedJson(answers: Answers, probe: "docker-version" | "docker-info" | "daemon-json"): unknown {
  const answer = stdoutOf(answers.of(probe), "docker");
  return answer.seen ? parseJson(answer.value) : undefined;
}

/** An engine that can inject CDI devices names the folders it looks into; one that is too old to say so has it in its configuration. */
function readCdi(answers: Answers, info: unknown): boolean | null {
  if (at(info, "CDISpecDirs") !== undefined) return textsAt(info, "CDISpecDirs").length > 0;
  const configured = at(printedJson(answers, "daemon-json"), "features", "cdi");
  return typeof configured === "boolean" ? configured : null;
}

function readDevices(info: unknown): string[] | null {
  const discovered = at(info, "DiscoveredDevices");
  return Array.isArray(discovered) ? discovered.flatMap((device: unknown) => textAt(device, "ID") ?? []) : null;
}

function readCompose(answers: Answers): Seen<string> {
  const answer = stdoutOf(answers.of("compose"), "docker compose");
  if (!answer.seen) return answer;
  const version = /^v?(\d+\.\d+\.\d+\S*)$/m.exec(answer.value.trim())?.[1];
  return version === undefined ? unseen("docker compose says no version") : seen(version);
}

function readDockerDisk(answers: Answers, containerdStore: boolean): Seen<Room> {
  const answer = stdoutOf(answers.of("docker-disk"), "df");
  if (!answer.seen) return answer;
  const rows = lines(answer.value);
  const rooms: Room[] = [];
  for (let row = 0; row < rows.length; row += 3) {
    const room = readRoom(rows[row] ?? "", rows[row + 1], rows[row + 2]);
    if (room !== null) rooms.push(room);
  }
  const chosen = containerdStore ? (rooms.find(({ path }) => path === "/var/lib/containerd") ?? rooms[0]) : rooms[0];
  return chosen === undefined ? unseen("df says nothing of use") : seen(chosen);
}

function readContainers(answers: Answers): Seen<Container[]> {
  const answer = stdoutOf(answers.of("docker-ps"), "docker ps");
  if (!answer.seen) return answer;
  return seen(
    lines(answer.value).flatMap((line) => {
      const row = parseJson(line);
      const [id, name] = [textAt(row, "ID"), textAt(row, "Names")];
      if (id === null || name === null) return [];
      const labels = Object.fromEntries((textAt(row, "Labels") ?? "").split(",").map(labelOf));
      return [{ id, name, image: textAt(row, "Image") ?? "", labels, published: readPublished(textAt(row, "Ports") ?? "") }];
    }),
  );
}

function labelOf(text: string): readonly [string, string] {
  const [key = "", ...value] = text.split("=");
  return [key, value.join("=")];
}

/** `0.0.0.0:8001->8001/tcp, [::]:8001->8001/tcp, 9000/tcp, 127.0.0.1:7000-7002->7000-7002/tcp`: what has no arrow is not published. */
export function readPublished(ports: string): Published[] {
  return ports.split(", ").flatMap((entry) => {
    const match = /^\[?([0-9a-fA-F.:]*?)\]?:(\d{1,5})(?:-(\d{1,5}))?->.*\/tcp$/.exec(entry.trim());
    if (match === null) return [];
    const [first, last] = [Number(match[2]), Number(match[3] ?? match[2])];
    if (last < first || last > 65_535) return [];
    const address = match[1] === "" || match[1] === undefined ? "::" : match[1];
    return Array.from({ length: last - first + 1 }, (_, offset) => ({ address, port: first + offset }));
  });
}
