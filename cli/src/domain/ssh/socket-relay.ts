import { quoteWord } from "./shell-line.js";

/** Programs that can stand between a pair of pipes and a unix socket, one of which every server has: Debian is nothing without perl. */
const programs = ["python3", "perl", "socat"] as const;

const python = `import os, socket, sys, threading
far = socket.socket(socket.AF_UNIX)
far.connect(sys.argv[1])
def up():
    while True:
        some = os.read(0, 65536)
        if not some: break
        far.sendall(some)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while True:
    some = far.recv(65536)
    if not some: break
    sys.stdout.buffer.write(some)
    sys.stdout.buffer.flush()
os._exit(0)`;

const perl = `use IO::Socket::UNIX;
my $far = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$!\\n";
sub all { my ($to, $some) = @_; my $at = 0; while ($at < length $some) { $at += syswrite($to, $some, length($some) - $at, $at) // die "$!\\n" } }
my $up = fork // die "$!\\n";
if ($up == 0) { all($far, $some) while sysread(STDIN, $some, 65536); shutdown($far, 1); exit 0 }
all(*STDOUT, $some) while sysread($far, $some, 65536);
kill TERM => $up;`;

/** A script that prints the first program of the host that can carry a relay, and nothing where there is none. */
export const findRelay = `${programs.map((each) => `command -v ${each}`).join(" || ")} || true`;

/** What is to be installed where `findRelay` finds nothing. */
export const relayPrograms: readonly string[] = programs;

/** Carries stdin to a unix socket of the host and what comes back to stdout, until the far end closes. */
export function relayScript(socket: string): string {
  const path = quoteWord(socket);
  return [
    `if command -v python3 >/dev/null; then exec python3 -I -c ${quoteWord(python)} ${path}; fi`,
    `if command -v perl >/dev/null; then exec perl -e ${quoteWord(perl)} ${path}; fi`,
    // Seconds for an answer to somebody who has said that nothing more comes.
    `exec socat -t 30 STDIO UNIX-CONNECT:${path}`,
  ].join("\n");
}
