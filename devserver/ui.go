package devserver

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	uiapi "github.com/temporalio/ui-server/v2/server/api"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uicsrf "github.com/temporalio/ui-server/v2/server/csrf"
	uiheaders "github.com/temporalio/ui-server/v2/server/headers"
	uiroute "github.com/temporalio/ui-server/v2/server/route"
	uirpc "github.com/temporalio/ui-server/v2/server/rpc"
	"github.com/temporalio/ui-server/v2/ui"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
)

// uiServer is the Temporal Web UI. It is put together from the parts of ui-server, whose own Server
// opens the port itself, ends the process if it cannot, does not say which port it got and never
// closes its connection to Temporal.
type uiServer struct {
	url     string
	http    *http.Server
	conn    *grpc.ClientConn
	serving sync.WaitGroup
}

// serveUI serves on lis until stop is called. If it fails, lis is still the caller's.
func serveUI(lis net.Listener, temporalAddr, namespace string, columns []string, log *slog.Logger) (*uiServer, error) {
	conn, err := uirpc.Dial(temporalAddr, nil)
	if err != nil {
		return nil, err
	}
	handler, err := uiHandler(conn, temporalAddr, namespace, columns, log)
	if err != nil {
		conn.Close()
		return nil, err
	}
	u := &uiServer{
		url:  "http://" + lis.Addr().String(),
		conn: conn,
		http: &http.Server{
			Handler:           loopbackHost(handler),
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
	u.serving.Go(func() {
		if err := u.http.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the Temporal UI ended", "error", err)
		}
	})
	return u, nil
}

// stop lets running requests finish for a second.
func (u *uiServer) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := u.http.Shutdown(ctx); err != nil {
		u.http.Close()
	}
	u.serving.Wait()
	u.conn.Close()
}

func uiHandler(conn *grpc.ClientConn, temporalAddr, namespace string, columns []string, log *slog.Logger) (http.Handler, error) {
	cfg, err := uiconfig.NewConfigProviderWithRefresh(&uiconfig.Config{
		TemporalGRPCAddress: temporalAddr,
		DefaultNamespace:    namespace,
		EnableUI:            true,
		DisableNewsFetch:    true,
		NotifyOnNewVersion:  false,
	})
	if err != nil {
		return nil, err
	}
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return nil, err
	}
	if len(columns) > 0 {
		if assets, err = withColumns(assets, namespace, columns); err != nil {
			return nil, err
		}
	}

	const cookieSecure = false // it is plain HTTP on loopback
	e := echo.New()
	e.Logger.SetOutput(slog.NewLogLogger(log.Handler(), slog.LevelWarn).Writer())
	e.Use(
		middleware.Recover(),
		middleware.Gzip(),
		middleware.Secure(),
		uicsrf.EnsureTokenCookie(cookieSecure),
		middleware.CSRFWithConfig(uicsrf.MiddlewareConfig(cfg, cookieSecure)),
	)
	uiroute.SetHealthRoute(e)

	api := e.Group("/api/v1")
	api.GET("/settings", uiapi.GetSettings(cfg))
	api.GET("/releases", uiapi.GetLatestReleases(cfg, uiapi.NewReleaseChecker()))
	api.GET("/ui-extensions", uiapi.GetUIExtensions(cfg, nil))
	api.GET(uiapi.WorkflowRawHistoryUrl, uiapi.WorkflowRawHistoryHandler(workflowservice.NewWorkflowServiceClient(conn)))
	api.Any("/*", uiapi.TemporalAPIHandler(cfg,
		[]uiapi.Middleware{uiheaders.WithForwardHeaders([]string{"Caller-Type"})}, conn))

	if err := uiroute.SetUIRoutes(e, "", assets, cfg); err != nil {
		return nil, err
	}
	uiroute.SetRenderRoute(e, "/")
	return e, nil
}

// loopbackHost refuses requests that were meant for another host: a web page can point its own name
// at 127.0.0.1 and would then read and command Temporal from the browser of whoever visits it.
func loopbackHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "the Temporal UI is served to this machine only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
