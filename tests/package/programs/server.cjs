'use strict';

// A server that knows nothing of a cluster.
const http = require('node:http');

http.createServer((request, response) => response.end(`slot ${process.env.NODE_APP_INSTANCE}`)).listen(0, '127.0.0.1');
