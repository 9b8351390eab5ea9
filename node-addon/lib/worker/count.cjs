'use strict';

// How many HTTP requests this worker has answered, for its primary, which may replace it after so many.

const channels = require('node:diagnostics_channel');

// Node tells of each answer here when it has been written.
const ANSWERED = 'http.server.response.finish';
const FAILED = 500;

function countRequests(member) {
  let requests = 0;
  let errors = 0;
  const tell = () => {
    member.count(requests, errors);
    requests = errors = 0;
  };
  channels.subscribe(ANSWERED, ({ response }) => {
    // Once in each turn of the event loop.
    if (requests === 0) setImmediate(tell);
    requests += 1;
    if (response.statusCode >= FAILED) errors += 1;
  });
}

module.exports = { countRequests };
