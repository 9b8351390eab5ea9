//! nginx as a contender: it gets a configuration.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{Result, failed};
use crate::workshop::Workshop;

/// Its port, and the unix socket on which it tells what it has served.
pub type Nginx = Option<(u16, PathBuf)>;

pub fn command(shop: &Workshop, reuseport: bool, workers: usize) -> Result<(Command, Nginx)> {
    let file = shop.nginx()?;
    let folder = shop.out.join("nginx");
    std::fs::create_dir_all(&folder).map_err(failed("nginx's folder"))?;
    // nginx cannot take any free port; this one was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(failed("bind"))?.port();
    let option = if reuseport { " reuseport" } else { "" };
    let socket = folder.join("counts");
    let _ = std::fs::remove_file(&socket);
    let text = format!(
        "daemon off; pid {0}/pid; error_log {0}/errors; worker_processes {workers};\n\
         events {{ worker_connections 16384; }}\n\
         http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;\n\
         uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
         server {{ listen 127.0.0.1:{port} backlog=4096{option}; location / {{ return 200 ok; }} }}\n\
         server {{ listen unix:{1}; location / {{ stub_status; }} }} }}\n",
        folder.display(),
        socket.display()
    );
    let configuration = folder.join("nginx.conf");
    std::fs::write(&configuration, text).map_err(failed("nginx.conf"))?;
    let mut command = Command::new(file);
    command.arg("-c").arg(configuration).arg("-e").arg(folder.join("errors"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok((command, Some((port, socket))))
}
