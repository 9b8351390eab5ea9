'use strict';
// A program that knows nothing of clusters. What it does for a request is the request's path.

const fs = require('node:fs');
const http = require('node:http');

const about = () => JSON.stringify({
  pid: process.pid, instance: process.env.NODE_APP_INSTANCE, argv: process.argv, execArgv: process.execArgv,
  main: require.main === module, filename: __filename, cwd: process.cwd(),
});

/** Answers as soon as the file is there: a request that takes as long as the test wants. */
function hold(file, response) {
  console.log(`holding for ${file}`);
  const timer = setInterval(() => {
    if (!fs.existsSync(file)) return;
    clearInterval(timer);
    response.end(`held by ${process.pid}`);
  }, 5);
}

function block() {
  console.log('blocked');
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const value = url.searchParams.get('value');
  switch (url.pathname) {
    case '/exit': return process.exit(Number(value));
    case '/kill': return process.kill(process.pid, value);
    case '/print': return response.end(String(process.stdout.write(value)));
    case '/hold': return hold(value, response);
    case '/block': return block();
    default: return response.end(about());
  }
}).listen(Number(process.env.PORT) || 0, '127.0.0.1');
