// Sends the request argv[3] argv[4] to the agent at the socket argv[2], with Node's own HTTP client. Prints the status, the
// content type and the body as one line of JSON; for events, the first one that is called argv[5].
"use strict";
const http = require("node:http");

const [socketPath, method, path, awaited] = process.argv.slice(2);
const request = http.request({ socketPath, method, path, headers: { Host: "authctl" } }, (answer) => {
  const result = { status: answer.statusCode, type: answer.headers["content-type"] };
  const finish = () => {
    console.log(JSON.stringify(result));
    process.exit(0);
  };
  let text = "";
  answer.setEncoding("utf8");
  answer.on("data", (piece) => {
    text += piece;
    if (result.type !== "text/event-stream") return;
    const messages = text.split("\n\n");
    text = messages.pop();
    for (const message of messages) {
      if (message.startsWith(": subscribed")) console.log("listening");
      const [event, data] = message.split("\n");
      if (event === `event: ${awaited}`) {
        result.event = awaited;
        result.body = JSON.parse(data.slice("data: ".length));
        finish();
      }
    }
  });
  answer.on("end", () => {
    result.body = JSON.parse(text);
    finish();
  });
});
request.end();
