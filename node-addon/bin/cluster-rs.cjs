#!/usr/bin/env node
'use strict';

require('../lib/cli/signals.cjs').listen();
require('../lib/cli/main.cjs').main(process.argv.slice(2));
