import { newKey, TestSshServer } from "../../support/ssh-server.js";
import { describeHost } from "./host-suite.js";
import { connectorTo, SshHome } from "./host-world.js";

describeHost("by node-ssh, with a server of our own", "remote", async () => {
  const userKey = newKey();
  const server = await TestSshServer.start(userKey);
  const home = new SshHome(userKey);
  home.know(server.port, server.hostKey.public);
  const connector = connectorTo(home, server.port);
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
});
