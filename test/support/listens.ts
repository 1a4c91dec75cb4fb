import { connect } from "node:net";

/** Whether somebody accepts connections there; of protocols in which the server speaks first: and says something. */
export function listens(host: string, port: number, seenBy: "connect" | "data" = "connect"): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 });
    const settle = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once(seenBy, settle(true)).once("error", settle(false)).once("timeout", settle(false)).once("close", settle(false));
  });
}
