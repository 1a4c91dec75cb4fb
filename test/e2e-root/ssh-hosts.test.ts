/** Both transports against the real sshd of Debian: the contract of a host. */
import { describeHost } from "../contract/host/host-suite.js";
import { connectorTo, SshHome, type HostWorld } from "../contract/host/host-world.js";
import { newKey } from "../support/ssh-server.js";
import { RealSshd } from "../support/sshd.js";

const throughSshd = (client: "node-ssh" | "openssh") => async (): Promise<HostWorld> => {
  const userKey = newKey();
  const server = await RealSshd.start(userKey);
  const home = new SshHome(userKey);
  home.know(server.port, server.hostKey);
  const connector = connectorTo(home, server.port, { client, user: server.user });
  return {
    host: await connector.connect("box", new AbortController().signal),
    folder: home.make("host"),
    line: server.line,
    async dispose() {
      await connector.close();
      await server.close();
      home.remove();
    },
  };
};

describeHost("by node-ssh, with sshd", "remote", throughSshd("node-ssh"));
describeHost("by the system's ssh, with sshd", "remote", throughSshd("openssh"));
