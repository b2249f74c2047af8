@echo off
rem Goes back to a version that worked, when everything else is broken. It needs nothing of the agent.
setlocal
if not defined TILLKEEPER_SETTINGS set "TILLKEEPER_SETTINGS=%ProgramData%\Tillkeeper\{app}\settings.toml"
"%~dp0python\python.exe" -I -S "%~dp0lib\scripts\rollback.py" %*
set "code=%errorlevel%"
if not defined ROLLBACK_NO_PAUSE pause
exit /b %code%
