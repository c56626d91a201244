// Command ostro is the whole program: server, worker and command line.
package main

func main() {}
