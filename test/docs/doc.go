// Package docs holds a test only: it does what README and the guides tell a reader to do, with the real
// program, and looks for what their links name.
//
// Every fenced block there is read, by the words after its fence:
//
//	```sh                  is run by bash; a block that fails fails the test
//	```sh server           runs beside the others until the guide ends, as in a terminal of its own
//	```sh network          is not run: it makes ~/venv or ~/client, which are lent from .venvs here
//	```sh make             holds targets of the Makefile, which must exist
//	```text                is what the sh block before it prints, among other lines; … stands for anything
//	```python file=PATH    is written to PATH, which the text must name too; likewise yaml
//
// The blocks of a guide share a home folder, exported variables and nothing else. Any other block is an error.
package docs
