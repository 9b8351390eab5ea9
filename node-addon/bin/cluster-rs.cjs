#!/usr/bin/env node
'use strict';

require('../lib/cli/main.cjs').main(process.argv.slice(2));
