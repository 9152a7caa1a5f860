// What a Node.js template runs: node … /var/runtime/node/template.cjs. See lang/README.md.
'use strict';

require('./lichen_forks.cjs').install(); // the first: what is loaded after it finds the generators that children reseed
require('./lichen_template.cjs').run();
