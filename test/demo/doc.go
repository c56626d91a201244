// Package demo runs `make demo` as a person would, with a home and a port of its own, and checks what it prints against
// what the mlflow client, the API and the process table say.
package demo
