/** Everything that a host promises, for an account that becomes root by sudo. */
import { newKey, TestSshServer } from "../../support/ssh-server.js";
import { SudoStandIn } from "../../support/sudo-stand-in.js";
import { describeHost } from "./host-suite.js";
import { connectorTo, SshHome } from "./host-world.js";

describeHost("as root, by sudo over SSH", "remote", async () => {
  const userKey = newKey();
  const server = await TestSshServer.start(userKey);
  const home = new SshHome(userKey);
  server.faults.path = new SudoStandIn(home.make("account")).path;
  home.know(server.port, server.hostKey.public);
  const connector = connectorTo(home, server.port);
  return {
    host: await connector.connectAsRoot("box", new AbortController().signal),
    folder: home.make("host"),
    line: server.line,
    async dispose() {
      await connector.close();
      await server.close();
      home.remove();
    },
  };
});

describeHost("as root, by sudo on this machine", "local", async () => {
  const home = new SshHome(newKey());
  const { path } = new SudoStandIn(home.make("account"));
  const connector = connectorTo(home, 0, { path, node: { name: "box", host: "local" } });
  return {
    host: await connector.connectAsRoot("box", new AbortController().signal),
    folder: home.make("host"),
    line: null,
    async dispose() {
      await connector.close();
      home.remove();
    },
  };
});
