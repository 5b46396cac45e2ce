package api

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// healthz says that the process is up.
func (a *API) healthz(c echo.Context) error {
	return c.String(http.StatusOK, "ok\n")
}

// readyz says whether requests can be served: the engine answers, and
// [Options.Ready] agrees.
func (a *API) readyz(c echo.Context) error {
	ctx := c.Request().Context()
	err := a.tasks.Ready(ctx)
	if err == nil && a.ready != nil {
		err = a.ready(ctx)
	}
	if err != nil {
		return c.String(http.StatusServiceUnavailable, err.Error()+"\n")
	}
	return c.String(http.StatusOK, "ready\n")
}
