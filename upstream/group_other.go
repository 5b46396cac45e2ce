//go:build !unix

package upstream

import "os/exec"

// Process groups are a Unix matter; elsewhere only the process itself ends.

func ownGroup(*exec.Cmd) {}

func terminateGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
